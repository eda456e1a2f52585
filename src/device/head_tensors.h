// What stays on the device while heads are solved together, of one layer or of several that are alike.
// Letters are those of docs/notation.md.
#pragma once

#include "device/graph.h"
#include "solve/head.h"

#include <span>

namespace kvfold::device {

inline constexpr Index kRegister = 16; // floats of the widest vector register

struct HeadSizes {
    Index heads;       // KV heads that are solved together
    Index cells;       // T
    Index queries;     // n, of those that are given, as many as fill registers
    Index key_width;   // d
    Index value_width; // dv
    Index kept;        // t
    Index candidates;  // M that pursuit looks at; 0: nothing is pursued
    Index step;        // cells that pursuit takes at once, at most; 0 likewise
    Index batch;       // b: queries of a refinement step; 0: no refinement
    bool is_weighted;  // queries differ in importance
    float softcap;     // 0 = off

    // What products contract over is a multiple of what vector registers hold: others take four times as long
    // on a processor. Padded cells and slots are masked.
    Index padded_cells() const { return padded(cells); }
    Index slots() const { return padded(kept); }
    static Index padded(Index count) { return (count + kRegister - 1) / kRegister * kRegister; }

    Index largest() const; // floats of the largest tensor

    // Floats that all of these tensors and the largest graph hold, about.
    size_t floats(Index block_floats) const;
};

// problems: of equal shapes, with kRegister queries or more.
HeadSizes sizes_of(std::span<const HeadProblem> problems, const SolvePlan& plan, const SolveRequest& request);

struct HeadTensors {
    HeadTensors(Backend& backend, const HeadSizes& sizes);

    Backend& backend;
    const HeadSizes sizes;
    const Index block; // queries whose logits over all cells are held at once
    Tensors tensors;

    // What is given, and the full attention.
    Tensor keys;    // K: [d, T, h]
    Tensor values;  // V, transposed and divided by y: [T, dv, h]
    Tensor queries; // scale Q: [d, n, h]
    Tensor roots;   // r (solve/attention.h): [1, n, h]; null: all are 1
    Tensor no_cell; // [T, block]: 0, and -inf where there is no cell
    Tensor mass;    // m: [1, n, h]
    Tensor output;  // Y / y: [dv, n, h]
    Tensor score;   // RMS of the probability of each cell: [T, 1, h]
    Tensor unit;    // 1 / y: [1, 1, h], y^2 = mean_i ||Y_i||^2

    // Pursuit. One of its blocks holds s cells.
    Tensor candidates;   // [M, h] cells
    Tensor shares;       // A: [n, M, h]
    Tensor first_gram;   // A^T A: [M, M, h]
    Tensor gram;         // the same, less what the chosen cells explain
    Tensor correlation;  // A^T R, transposed: [M, 1 + dv, h]
    Tensor norms, gains; // [M, 1, h]
    Tensor ridge;        // lambda: [1, 1, h]
    Tensor pool;         // [s, h] candidates
    Tensor columns;      // of the pool in gram: [s, M, h]
    Tensor inner;        // of the pool and the pool: [s, s, h]
    Tensor asked;        // correlation of the pool: [1 + dv, s, h]
    Tensor inverse;      // of the factor of the pool: [s, s, h]
    Tensor targets;      // [s, 1 + dv, h]

    // The compact cells.
    Tensor kept; // [t, h] cells, or candidates

    // Of t slots, rounded up.
    Tensor no_slot;      // [t, 1, 1]: 0, and very low where there is no cell; null where all are
    Tensor weights;      // w: [t, 1, h]
    Tensor compact_keys; // K': [d, t, h]
    Tensor chosen;       // V_sel / y, transposed: [t, dv, h]
    Tensor fitted;       // V' / y, transposed: [t, dv, h]
    Tensor errors;       // sums of squares, of output and of mass: [1, 1, h] each
    Tensor mass_errors;

    // Refinement.
    Tensor batch;                    // [b, h] queries
    Tensor first_of_register;        // 1 and then 0: [register, t, h]
    Tensor key_rate, value_rate;     // of this step: [1, 1, h]
    Tensor square_bias;              // 1 / (1 - decay^step) of Adam's squares: [1, 1, 1]
    Tensor key_mean, key_square;     // Adam's: [d, t, h]
    Tensor value_mean, value_square; // [t, dv, h]

    Status allocate() { return tensors.allocate(); }
};

// What heads bring to a device, head by head as it takes them: cells are padded with zeros, and queries are
// as many as fill registers.
struct PackedHeads {
    ggml_type type = GGML_TYPE_F32; // of keys and values: halves where those hold all of them exactly
    std::vector<uint8_t> keys;      // [h, T, d]
    std::vector<uint8_t> values;    // [h, T, dv]
    std::vector<float> queries;     // scale Q: [h, n, d]
    std::vector<float> roots;       // r: [h, n]; empty: all are 1
};

// sizes: of these heads.
PackedHeads pack_heads(std::span<const HeadProblem> problems, const HeadSizes& sizes, int threads);

// Of the packed heads those from `first` on, as many as are held. Fails as Graph::compute does.
Status upload(HeadTensors& held, const PackedHeads& packed, Index first);

// Of the kept cells. rows: [heads] each [t, d].
void write_keys(HeadTensors& held, std::span<const Matrix> rows);
std::vector<Matrix> read_keys(const HeadTensors& held);

// place: chosen or fitted, which are divided by y. rows: [heads] each [t, dv], as they are.
void write_values(HeadTensors& held, Tensor place, std::span<const Matrix> rows);
std::vector<Matrix> read_values(const HeadTensors& held, Tensor place);

} // namespace kvfold::device
