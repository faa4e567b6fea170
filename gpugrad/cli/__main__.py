"""python -m gpugrad.cli"""

from gpugrad.cli import main

main()
