// What it takes to solve the layers of a model through ggml: seconds of those that are solved together, and
// the products, bytes and nodes of the graphs that ran, for all of them. Heads are synthetic; what is counted
// depends on shapes alone.
//
//   bench_device --shape 8b --cells 8192                   on the processor, through ggml
//   bench_device --shape 8b --cells 8192 --device CUDA0
//   bench_device --shape 8b --cells 8192 --tflops 180 --gbs 2600 --launch 4    and what a card of that speed
//   would take that starts a kernel in 4 microseconds, as a model
#include "base/format.h"
#include "base/timer.h"
#include "device/solve_heads.h"
#include "method/method.h"
#include "reference/synthetic_head.h"

#include <CLI/CLI.hpp>

#include <cstdio>

namespace kvfold {
namespace {

struct Shape {
    std::string_view name;
    Index layers, kv_heads, key_width, value_width;
};

constexpr Shape kShapes[] = {
    {"smollm2-135m", 30, 3, 64, 64},
    {"qwen-0.5b", 24, 2, 64, 64},
    {"8b", 36, 8, 128, 128},
};

struct Options {
    std::string shape = "8b", device = "CPU", method = "refine";
    Index cells = 8192, queries = 4096, ratio = 8;
    Index together = 1; // layers
    int threads = 1;
    double tflops = 0, gbs = 0, launch = 0;
};

Status run(const Options& options) {
    const auto shape = std::ranges::find(kShapes, options.shape, &Shape::name);
    if (shape == std::end(kShapes))
        return fail(ErrorCode::invalid_argument, "there are the shapes {}",
                    joined(kShapes, ", ", &Shape::name));
    KVFOLD_TRY(const Method* method, find_method(options.method));
    ggml_backend_load_all();
    const ggml_backend_dev_t device = ggml_backend_dev_by_name(options.device.c_str());
    if (!device) return fail(ErrorCode::invalid_argument, "there is no device {}", options.device);
    KVFOLD_TRY(const auto backend, device::Backend::open(device, options.threads));
    backend->use_threads(options.threads);

    std::vector<reference::SyntheticHead> heads;
    std::vector<HeadProblem> problems;
    for (Index head = 0; head < options.together * shape->kv_heads; ++head)
        heads.push_back(reference::synthetic_head({.cells = options.cells,
                                                   .queries = options.queries,
                                                   .key_width = shape->key_width,
                                                   .value_width = shape->value_width,
                                                   .seed = static_cast<uint32_t>(head + 1)}));
    for (reference::SyntheticHead& head : heads) {
        head.round_to_halves();
        problems.push_back(head.problem());
    }
    const SolveRequest request{.kept = options.cells / options.ratio};
    Timer timer;
    KVFOLD_TRY(const auto prepared, device::prepare_heads(problems, method->solve, request, options.threads));
    const double prepared_s = timer.seconds();
    timer = {};
    KVFOLD_TRY(const auto solved, device::solve_heads(*backend, prepared, method->solve, request));
    const double solved_s = timer.seconds();

    const double layers = static_cast<double>(shape->layers), times = layers / double(options.together);
    const device::Work& work = backend->work();
    const double flop = times * work.product_flop, bytes = times * work.other_bytes;
    const double graphs = times * double(work.graphs), nodes = times * double(work.nodes);
    const device::PackedHeads& packed = prepared.packed;
    const double given =
        times * double(packed.keys.size() + packed.values.size() + 4 * packed.queries.size());
    std::printf("%s, %ld cells -> %ld, %ld queries, %s, on %s\n", options.shape.c_str(), long(options.cells),
                long(request.kept), long(options.queries), options.method.c_str(), options.device.c_str());
    std::printf(
        "%zu heads together: %.2f s, of them %.2f s in graphs, and %.2f s on the processor before; output "
        "error %.3f\n",
        heads.size(), solved_s, work.seconds, prepared_s, double(solved.front().output_error));
    std::printf(
        "all %.0f layers: %.2f TFLOP in products, %.1f GB in other nodes, %.2f GB to the device; %.0f "
        "graphs of %.0f nodes\n",
        layers, flop / 1e12, bytes / 1e9, given / 1e9, graphs, nodes);
    if (options.tflops > 0 && options.gbs > 0)
        std::printf("model, not measured: %.2f s at %g TFLOP/s and %g GB/s, and %.2f s to start the nodes\n",
                    flop / options.tflops / 1e12 + bytes / options.gbs / 1e9, options.tflops, options.gbs,
                    nodes * options.launch / 1e6);
    return {};
}

} // namespace
} // namespace kvfold

int main(int argc, char** argv) {
    kvfold::Options options;
    CLI::App app("Time and count the solve of a layer through ggml");
    app.add_option("--shape", options.shape);
    app.add_option("--device", options.device);
    app.add_option("--method", options.method);
    app.add_option("--cells", options.cells);
    app.add_option("--queries", options.queries);
    app.add_option("--ratio", options.ratio);
    app.add_option("--threads", options.threads);
    app.add_option("--tflops", options.tflops);
    app.add_option("--gbs", options.gbs);
    app.add_option("--launch", options.launch);
    app.add_option("--together", options.together)->check(CLI::PositiveNumber);
    CLI11_PARSE(app, argc, argv);
    const kvfold::Status status = kvfold::run(options);
    if (status) return 0;
    std::fprintf(stderr, "bench_device: %s\n", status.error().message.c_str());
    return 1;
}
