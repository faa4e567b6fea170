// The main function of a program that makes one launch and ends: for the sanitisers, which want to
// own the process. Reads the launch from the file argv[1] and writes the buffers to argv[2].
//
//   int64: kernel, grid[3], block[3], reversed, number of arguments
//   per argument: int64 is_buffer (1), value (0) or null (2); int64 bytes; the bytes

#include <stdint.h>

static int64_t read_int(FILE* file) {
    int64_t x = 0;
    if (fread(&x, 8, 1, file) != 1) exit(3);
    return x;
}

int main(int, char** argv) {
    FILE* in = fopen(argv[1], "rb");
    if (!in) return 3;
    const int64_t kernel = read_int(in);
    unsigned d[6];
    for (unsigned& x : d) x = static_cast<unsigned>(read_int(in));
    const bool reversed = read_int(in);
    const int64_t n = read_int(in);
    std::vector<void*> storage(n), arguments(n);
    std::vector<int64_t> kinds(n), bytes(n);
    for (int64_t i = 0; i < n; ++i) {
        kinds[i] = read_int(in);
        bytes[i] = read_int(in);
        // malloc of the exact size: one byte beyond it is in the sanitiser's red zone.
        storage[i] = malloc(bytes[i] > 8 || kinds[i] == 1 ? bytes[i] : 8);
        if (bytes[i] && fread(storage[i], bytes[i], 1, in) != 1) return 3;
        if (kinds[i] == 2) memset(storage[i], 0, 8);
        arguments[i] = kinds[i] == 1 ? static_cast<void*>(&storage[i]) : storage[i];
    }
    fclose(in);
    const char* failure = host_launch(kernel, d, arguments.data(), reversed);
    if (failure) {
        fprintf(stderr, "launch failed: %s\n", failure);
        return 4;
    }
    FILE* out = fopen(argv[2], "wb");
    if (!out) return 3;
    for (int64_t i = 0; i < n; ++i)
        if (kinds[i] == 1 && bytes[i]) fwrite(storage[i], bytes[i], 1, out);
    return fclose(out) == 0 ? 0 : 3;
}
