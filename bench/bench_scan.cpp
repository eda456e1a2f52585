// Bytes a second that recall's scan reads, beside what a plain sum reads of the same bytes, on one core. Keys
// are halves and far more than the processor's caches hold.
//   bench_scan --benchmark_repetitions=5
//   bench_scan --shape=8b                    8 heads of 128, four queries each; default: 3 of 64, three each
#include "solve/kernels.h"

#include <benchmark/benchmark.h>

#include <cstdio>
#include <numeric>
#include <string_view>

namespace kvfold {
namespace {

struct Shape {
    Index heads = 3, width = 64, queries = 3; // queries: of one token to one KV head
};

constexpr size_t kBytes = size_t{256} << 20; // of all layers
constexpr size_t kCells = 8192;              // of a layer

struct Keys {
    explicit Keys(const Shape& shape)
        : shape(shape), stride(static_cast<size_t>(shape.heads * shape.width) * 2) {
        halves.resize(kBytes / 2);
        uint64_t state = 7;
        for (uint16_t& half : halves) { // of -2 to 2
            state = state * 6364136223846793005 + 1442695040888963407;
            half = static_cast<uint16_t>((state >> 40 & 0x3fff) | (state >> 63) << 15);
        }
        cells.resize(kCells);
        std::iota(cells.begin(), cells.end(), 0u);
    }
    Shape shape;
    size_t stride;
    std::vector<uint16_t> halves;
    std::vector<uint32_t> cells;
};

void scan(benchmark::State& state, const Keys& keys, const Kernels& kernels, Index tokens) {
    const Shape& shape = keys.shape;
    const Matrix queries = Matrix::Random(tokens * shape.queries, shape.width);
    const size_t layer = kCells * keys.stride, layers = kBytes / layer;
    for ([[maybe_unused]] auto _ : state) {
        for (size_t i = 0; i < layers * static_cast<size_t>(shape.heads); ++i) {
            const size_t head = i % static_cast<size_t>(shape.heads),
                         head_bytes = static_cast<size_t>(shape.width) * 2;
            const auto* first = reinterpret_cast<const uint8_t*>(keys.halves.data()) +
                                i / static_cast<size_t>(shape.heads) * layer + head * head_bytes;
            const KeyRows rows{first, keys.stride, true, keys.cells};
            benchmark::DoNotOptimize(kernels.highest_attention({std::span(&rows, 1), queries, 0.125f}));
        }
    }
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * layers * layer));
}

void read(benchmark::State& state, const Keys& keys) {
    for ([[maybe_unused]] auto _ : state)
        benchmark::DoNotOptimize(std::accumulate(keys.halves.begin(), keys.halves.end(), uint16_t{0}));
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kBytes));
}

} // namespace
} // namespace kvfold

int main(int argc, char** argv) {
    using namespace kvfold;
    Shape shape;
    if (argc > 1 && std::string_view(argv[1]) == "--shape=8b") {
        shape = {8, 128, 4};
        argv[1] = argv[0];
        ++argv;
        --argc;
    }
    const auto kernels = chosen_kernels();
    if (!kernels) return std::fprintf(stderr, "%s\n", kernels.error().message.c_str()), 1;
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    const Keys keys(shape);
    benchmark::RegisterBenchmark("read", [&](benchmark::State& state) { read(state, keys); });
    for (const Index tokens : {1, 4, 24}) {
        const std::string name = "scan/tokens:" + std::to_string(tokens);
        benchmark::RegisterBenchmark(name.c_str(), [&, tokens](benchmark::State& state) {
            scan(state, keys, **kernels, tokens);
        })->Unit(benchmark::kMillisecond);
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
