"""Fields and the sampling kernel on the CPU, for the tests of the Gibbs primitive."""

from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.philox import Draw
from gpugrad.primitives.gibbs import UNITS, kernel_call, sample_units, unit_uniforms
from tests.cuda_on_host.kernels import host_kernel

DRAW = Draw(key=(0x0123456789ABCDEF, 0xFEDCBA9876543210), counter=2**128 - 3)
WIDTHS = (1, 31, 33, 255, 257, 1000)
CHAINS = (1, 2, 7, 16, 70)
TYPES = {"float32": "float", "float64": "double", "float16": "__half", "bfloat16": "__nv_bfloat16"}
INSTANCES = tuple(
    f"sample_units<{t}, {t}, {t}, {UNITS.index(unit)}>" for t in TYPES.values() for unit in UNITS
) + tuple(f"sample_units<float, __nv_bfloat16, float, {i}>" for i in range(len(UNITS)))


class Case(NamedTuple):
    """A field of the given type, held in float64; bfloat16 as the bits of its numbers besides."""

    field: np.ndarray
    bias: np.ndarray
    beta: np.ndarray | None
    stored: np.ndarray


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """The bits of the bfloat16 numbers nearest to `x`."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def make_case(dtype: str, chains: int, units: int, beta: str = "none", seed: int = 0) -> Case:
    """A field with small, large and saturating values; bias in the type of computation."""
    rng = np.random.default_rng([seed, chains, units])
    field = rng.normal(0, 3, (chains, units))
    field[rng.random(field.shape) < 0.1] *= 10
    bias = rng.normal(0, 1, units)
    wide = np.float64 if dtype == "float64" else np.float32
    betas = {"none": None, "one": np.array([0.7]), "chain": rng.uniform(0, 2, (chains, 1))}
    chosen = betas[beta]
    stored = to_bfloat16(field) if dtype == "bfloat16" else field.astype(dtype)
    exact = from_bfloat16(stored) if dtype == "bfloat16" else stored
    return Case(
        exact if dtype != "bfloat16" else exact.astype(np.float32),
        bias.astype(wide),
        None if chosen is None else chosen.astype(wide),
        stored,
    )


def run_kernel(
    case: Case,
    unit: str,
    *,
    draw: Draw | None = DRAW,
    sample: np.ndarray | None = None,
    mean: np.ndarray | None = None,
    grid: int = 2,
    block: int = 64,
    sanitize: bool = False,
    reversed_order: bool = False,
    **more: Any,
) -> None:
    """Launch the kernel on the CPU; results go into `sample` and `mean`."""
    if case.stored.dtype == np.uint16:
        # NumPy has no bfloat16 to name the types by: the mean's is set by hand.
        more = {"sample_type": "__nv_bfloat16", "field_type": "__nv_bfloat16", **more}
    name, args = kernel_call(
        case.stored,
        case.bias,
        case.beta,
        unit=unit,
        draw=draw,
        sample=sample,
        mean=None if case.stored.dtype == np.uint16 else mean,
        **more,
    )
    if case.stored.dtype == np.uint16 and mean is not None:
        args = (*args[:10], mean, np.int64(mean.shape[1]), *args[12:])
    how = {"sanitize": sanitize, "reversed_order": reversed_order}
    host_kernel("gibbs.cu", name, INSTANCES, **how)((grid,), (block,), args)


def body(case: Case, unit: str, draw: Draw | None = DRAW) -> tuple[Any, Any]:
    """Sample and mean by the primitive's launcher for the host, in the type of computation."""
    return sample_units(
        case.field,
        case.bias,
        unit=unit,
        draw=draw,
        beta=case.beta,
        mean=True,
        dtype=case.bias.dtype,
    )


def exact_mean(case: Case, unit: str) -> np.ndarray:
    """The means in float64, from the logits rounded as the kernel rounds them."""
    logit = case.field.astype(case.bias.dtype) + case.bias
    if case.beta is not None:
        logit = logit * case.beta.reshape(-1, 1)
    logit = logit.astype(np.float64)
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logit)) if unit == "bernoulli" else np.tanh(logit)


def chance_of(case: Case, unit: str) -> np.ndarray:
    """The probability that the unit is 1, float64."""
    if unit == "bernoulli":
        return exact_mean(case, unit)
    return exact_mean(case._replace(field=2 * case.field, bias=2 * case.bias), "bernoulli")


def near_a_tie(case: Case, unit: str, draw: Draw = DRAW) -> np.ndarray:
    """Where the uniform lies within 4 ulp of the probability: there samples may differ."""
    u = unit_uniforms(np, draw, case.field.size).reshape(case.field.shape)
    p = chance_of(case, unit)
    return np.abs(u - p) <= 4 * np.spacing(p.astype(case.bias.dtype)).astype(np.float64)
