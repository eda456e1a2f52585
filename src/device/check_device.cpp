#include "device/check_device.h"

#include "device/devices.h"
#include "device/solve_heads.h"
#include "solve/solve_head.h"

#include <random>

namespace kvfold::device {
namespace {

constexpr Index kHeads = 2, kCells = 512, kQueries = 768, kWidth = 64, kKept = 64;
constexpr float kMostWorse = 1.25f;

struct MadeUpHead {
    Matrix keys, values, queries;
    std::vector<float> importance; // so that the graphs are those of the default method
    HeadProblem problem() const {
        return {keys, values, queries, /*scale=*/0.35f, /*softcap=*/0, importance};
    }
};

// Queries look along a few directions, as real ones do, and share one, which takes the bias in.
MadeUpHead made_up_head(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto matrix = [&](Index rows, Index cols) {
        return Matrix(Matrix::NullaryExpr(rows, cols, [&] { return normal(random); }));
    };
    const Matrix basis = matrix(8, kWidth) / std::sqrt(static_cast<float>(kWidth)),
                 shared = matrix(1, kWidth) / 2;
    MadeUpHead head{
        2 * matrix(kCells, 8) * basis, matrix(kCells, kWidth), 2 * matrix(kQueries, 8) * basis, {}};
    head.queries.rowwise() += shared.row(0);
    for (Index i = 0; i < kQueries; ++i)
        head.importance.push_back(static_cast<float>(1 + i % 3));
    return head;
}

} // namespace

Status check_device(ggml_backend_dev_t device) {
    std::vector<MadeUpHead> made_up;
    std::vector<HeadProblem> heads;
    for (unsigned seed = 1; seed <= kHeads; ++seed)
        made_up.push_back(made_up_head(seed));
    for (const MadeUpHead& head : made_up)
        heads.push_back(head.problem());
    const SolvePlan plan{.refine_steps = 2, .pursued = 0.25f};
    const SolveRequest request{.kept = kKept};
    KVFOLD_TRY(const PreparedHeads prepared, prepare_heads(heads, plan, request));
    KVFOLD_TRY(const Lease backend, Lease::of(device));
    KVFOLD_TRY(const auto solved, solve_heads(*backend, prepared, plan, request));
    for (size_t i = 0; i < heads.size(); ++i) {
        KVFOLD_TRY(const CompactHead wanted, solve_head(heads[i], plan, request));
        if (!(solved[i].output_error <= kMostWorse * wanted.output_error))
            return fail(ErrorCode::numeric, "{} leaves an error of {:.3f} where the processor leaves {:.3f}",
                        (*backend).description(), solved[i].output_error, wanted.output_error);
    }
    return {};
}

} // namespace kvfold::device
