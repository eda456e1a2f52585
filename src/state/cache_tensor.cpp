#include "state/cache_tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace kvfold {
namespace {

size_t block_of(ggml_type type) { return static_cast<size_t>(ggml_blck_size(type)); }

// Converts `count` elements (a multiple of the block) that stand one behind the other.
void decode_run(ggml_type type, const uint8_t* from, float* to, size_t count) {
    if (type == GGML_TYPE_F32) { // has no conversions in ggml, being the other side of all of them
        std::memcpy(to, from, count * sizeof(float));
        return;
    }
    ggml_get_type_traits(type)->to_float(from, to, static_cast<int64_t>(count));
}

void encode_run(ggml_type type, const float* from, uint8_t* to, size_t count) {
    if (type == GGML_TYPE_F32) {
        std::memcpy(to, from, count * sizeof(float));
        return;
    }
    ggml_get_type_traits(type)->from_float_ref(from, to, static_cast<int64_t>(count));
}

Matrix decode_rows(ggml_type type, const uint8_t* bytes, size_t rows, size_t cols) {
    Matrix result(static_cast<Index>(rows), static_cast<Index>(cols));
    if (result.size() > 0) decode_run(type, bytes, result.data(), rows * cols);
    return result;
}

// from: [rows, cols]. A value that did not fit shows when it is read back: f16 overflow gives infinity, and
// so does a block whose scale overflows. A NaN may vanish in a quantised block, so the input is looked at
// too.
Result<std::vector<uint8_t>> encode_rows(MatrixView from, ggml_type type) {
    const size_t cols = static_cast<size_t>(from.cols());
    const size_t row_bytes = ggml_row_size(type, from.cols());
    std::vector<uint8_t> bytes(row_bytes * static_cast<size_t>(from.rows()));
    Vector back(from.cols());
    for (Index row = 0; row < from.rows(); ++row) {
        uint8_t* to = bytes.data() + static_cast<size_t>(row) * row_bytes;
        const bool finite = from.row(row).allFinite();
        if (finite) {
            encode_run(type, from.row(row).data(), to, cols);
            decode_run(type, to, back.data(), cols);
        }
        if (!finite || !back.allFinite())
            return fail(ErrorCode::numeric, "row {} of {} holds {} {}", row, from.rows(),
                        finite ? "values too large for the cache type" : "NaN or infinity, to be stored as",
                        ggml_type_name(type));
    }
    return bytes;
}

} // namespace

size_t CacheTensor::row_bytes() const { return ggml_row_size(type, width); }

size_t CacheTensor::cell_count() const { return width == 0 ? 0 : bytes.size() / row_bytes(); }

bool is_cache_type(ggml_type type) {
    switch (type) {
    case GGML_TYPE_F32:
    case GGML_TYPE_F16:
    case GGML_TYPE_BF16:
    case GGML_TYPE_Q8_0:
    case GGML_TYPE_Q4_0:
    case GGML_TYPE_Q4_1:
    case GGML_TYPE_Q5_0:
    case GGML_TYPE_Q5_1:
    case GGML_TYPE_IQ4_NL:
        return true;
    default:
        return false;
    }
}

Matrix to_float(const CacheTensor& tensor) {
    const size_t cells = tensor.cell_count();
    if (!tensor.transposed) return decode_rows(tensor.type, tensor.bytes.data(), cells, tensor.width);
    return decode_rows(tensor.type, tensor.bytes.data(), tensor.width, cells).transpose();
}

Matrix head_to_float(const CacheTensor& tensor, std::span<const uint32_t> cells, Index first_col,
                     Index cols) {
    Matrix head(static_cast<Index>(cells.size()), cols);
    if (tensor.transposed) {
        const size_t old_cells = tensor.cell_count();
        const size_t column = old_cells * ggml_type_size(tensor.type);
        Vector values(static_cast<Index>(old_cells));
        for (Index col = 0; col < cols; ++col) {
            const uint8_t* from = tensor.bytes.data() + static_cast<size_t>(first_col + col) * column;
            decode_run(tensor.type, from, values.data(), old_cells);
            for (size_t i = 0; i < cells.size(); ++i)
                head(static_cast<Index>(i), col) = values[cells[i]];
        }
        return head;
    }
    const size_t row = tensor.row_bytes(), offset = ggml_row_size(tensor.type, first_col);
    for (size_t i = 0; i < cells.size(); ++i)
        decode_run(tensor.type, tensor.bytes.data() + cells[i] * row + offset,
                   head.row(static_cast<Index>(i)).data(), static_cast<size_t>(cols));
    return head;
}

Result<CacheTensor> from_float(MatrixView rows, ggml_type type, bool transposed) {
    CacheTensor tensor;
    tensor.type = type;
    tensor.width = static_cast<uint32_t>(rows.cols());
    tensor.transposed = transposed;
    if (!is_cache_type(type))
        return fail(ErrorCode::invalid_argument, "cache type {} cannot be written", static_cast<int>(type));
    const size_t block = block_of(type);
    if (static_cast<size_t>(rows.cols()) % block != 0 || (transposed && block != 1))
        return fail(ErrorCode::invalid_argument, "{} elements a cell do not go into {} blocks of {}{}",
                    rows.cols(), ggml_type_name(type), block, transposed ? ", transposed" : "");
    if (transposed) {
        const Matrix turned = rows.transpose();
        KVFOLD_TRY(tensor.bytes, encode_rows(turned, type));
    } else {
        KVFOLD_TRY(tensor.bytes, encode_rows(rows, type));
    }
    return tensor;
}

CacheTensor take_cells(const CacheTensor& tensor, std::span<const uint32_t> cells) {
    CacheTensor taken{tensor.type, tensor.width, tensor.transposed, {}};
    const size_t row = tensor.row_bytes();
    taken.bytes.resize(row * cells.size());
    if (!tensor.transposed) {
        for (size_t i = 0; i < cells.size(); ++i)
            std::memcpy(taken.bytes.data() + i * row, tensor.bytes.data() + cells[i] * row, row);
        return taken;
    }
    const size_t element = ggml_type_size(tensor.type);
    const size_t old_cells = tensor.cell_count();
    for (size_t column = 0; column < tensor.width; ++column) {
        const uint8_t* from = tensor.bytes.data() + column * old_cells * element;
        uint8_t* to = taken.bytes.data() + column * cells.size() * element;
        for (size_t i = 0; i < cells.size(); ++i)
            std::memcpy(to + i * element, from + cells[i] * element, element);
    }
    return taken;
}

CacheTensor take_heads(const CacheTensor& tensor, std::span<const std::vector<uint32_t>> cells) {
    CacheTensor taken{tensor.type, tensor.width, tensor.transposed, {}};
    const size_t count = cells.front().size(), old_cells = tensor.cell_count();
    const size_t row = tensor.row_bytes(), head_width = tensor.width / cells.size();
    const size_t head_bytes = row / cells.size(), element = ggml_type_size(tensor.type);
    taken.bytes.resize(row * count);
    for (size_t head = 0; head < cells.size(); ++head) {
        for (size_t i = 0; i < count; ++i) {
            const size_t from = cells[head][i];
            if (!tensor.transposed) {
                std::memcpy(taken.bytes.data() + i * row + head * head_bytes,
                            tensor.bytes.data() + from * row + head * head_bytes, head_bytes);
                continue;
            }
            for (size_t column = head * head_width; column < (head + 1) * head_width; ++column)
                std::memcpy(taken.bytes.data() + (column * count + i) * element,
                            tensor.bytes.data() + (column * old_cells + from) * element, element);
        }
    }
    return taken;
}

void append_cells(CacheTensor& tensor, const CacheTensor& tail) {
    if (!tensor.transposed) {
        tensor.bytes.insert(tensor.bytes.end(), tail.bytes.begin(), tail.bytes.end());
        return;
    }
    const size_t element = ggml_type_size(tensor.type);
    const size_t old_run = tensor.cell_count() * element;
    const size_t tail_run = tail.cell_count() * element;
    std::vector<uint8_t> joined;
    joined.reserve(tensor.bytes.size() + tail.bytes.size());
    for (size_t column = 0; column < tensor.width; ++column) {
        const auto old_begin = tensor.bytes.begin() + static_cast<std::ptrdiff_t>(column * old_run);
        const auto tail_begin = tail.bytes.begin() + static_cast<std::ptrdiff_t>(column * tail_run);
        joined.insert(joined.end(), old_begin, old_begin + static_cast<std::ptrdiff_t>(old_run));
        joined.insert(joined.end(), tail_begin, tail_begin + static_cast<std::ptrdiff_t>(tail_run));
    }
    tensor.bytes = std::move(joined);
}

void round_rows(MutableMatrixView rows, ggml_type type) {
    if (type == GGML_TYPE_F32) return;
    const size_t cols = static_cast<size_t>(rows.cols());
    std::vector<uint8_t> bytes(ggml_row_size(type, rows.cols()));
    for (Index row = 0; row < rows.rows(); ++row) {
        float* values = rows.row(row).data();
        encode_run(type, values, bytes.data(), cols);
        decode_run(type, bytes.data(), values, cols);
    }
}

} // namespace kvfold
