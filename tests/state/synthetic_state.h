// Sequence states written byte by byte after docs/state-format.md, without the encoder that is under test,
// so that the two must agree. Every field's offset is kept for the damage tests.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace kvfold::testing {

struct SectionSpec {
    uint32_t streams = 1;
    uint32_t stream = 0;
    uint32_t cells = 3;
    uint32_t layers = 2;
    bool extra = false;
    bool transposed = false;
    bool rotation = false; // as version 4 writes it
    ggml_type key_type = GGML_TYPE_F16;
    ggml_type value_type = GGML_TYPE_F16;
    uint32_t width = 32; // of layer 0; each further layer is 32 wider
};

struct RecurrentSpec {
    uint32_t cells = 1;
    uint32_t layers = 5; // of the model; records of 2
    uint32_t first_pos = 7;
    uint64_t r_floats = 3;
    uint64_t s_floats = 4;
    bool ple = false; // the variant with a second row behind each R record
};

class SyntheticState {
  public:
    std::vector<uint8_t> bytes;
    std::map<std::string, size_t>
        at; // "0.streams", "0.cell1.pos", "0.key0.row_bytes", "recurrent.s_trans", ...
    std::vector<size_t> section_ends; // cut there, what stands before is whole

    explicit SyntheticState(uint32_t seed = 1) : random_(seed) {}

    template <class T> void put(const std::string& name, T value) {
        if (!name.empty()) at[name] = bytes.size();
        bytes.resize(bytes.size() + sizeof(T));
        std::memcpy(bytes.data() + bytes.size() - sizeof(T), &value, sizeof(T));
    }

    SyntheticState& section(const SectionSpec& spec) {
        const std::string id = std::to_string(section_ends.size()) + ".";
        put<uint32_t>(id + "streams", spec.streams);
        for (uint32_t stream = 0; stream < spec.streams; ++stream) {
            const uint32_t cells = stream == spec.stream ? spec.cells : 0;
            put<uint32_t>(cells > 0 ? id + "cells" : id + "no_cells" + std::to_string(stream), cells);
            if (cells > 0) stream_data(id, spec);
        }
        section_ends.push_back(bytes.size());
        return *this;
    }

    SyntheticState& recurrent(const RecurrentSpec& spec) {
        put<uint32_t>("recurrent.cells", spec.cells);
        for (uint32_t i = 0; i < spec.cells; ++i) {
            put<uint32_t>("", spec.first_pos + i);
            put<uint32_t>("recurrent.cell" + std::to_string(i) + ".ids", 0);
        }
        put<uint32_t>("recurrent.s_trans", 0);
        put<uint32_t>("recurrent.layers", spec.layers);
        for (int kind = 0; kind < 2; ++kind) {
            for (int layer = 0; layer < 2; ++layer) {
                const std::string id =
                    std::string("recurrent.") + (kind == 0 ? "r" : "s") + std::to_string(layer);
                const uint64_t row_bytes = 4 * (kind == 0 ? spec.r_floats : spec.s_floats);
                put<int32_t>(id + ".type", GGML_TYPE_F32);
                put<uint64_t>(id + ".row_bytes", row_bytes);
                noise(row_bytes * spec.cells);
                if (kind == 0 && spec.ple) {
                    put<uint64_t>("", 4096);
                    noise(uint64_t{4096} * spec.cells);
                }
            }
        }
        section_ends.push_back(bytes.size());
        return *this;
    }

    // A copy with one field overwritten.
    template <class T> std::vector<uint8_t> with(const std::string& name, T value) const {
        std::vector<uint8_t> changed = bytes;
        std::memcpy(changed.data() + at.at(name), &value, sizeof(T));
        return changed;
    }

  private:
    void noise(uint64_t count) {
        for (uint64_t i = 0; i < count; ++i)
            bytes.push_back(static_cast<uint8_t>(random_()));
    }

    void stream_data(const std::string& id, const SectionSpec& spec) {
        for (uint32_t i = 0; i < spec.cells; ++i) {
            const std::string cell = id + "cell" + std::to_string(i);
            put<int32_t>(cell + ".pos", static_cast<int32_t>(10 + 3 * i));
            put<uint32_t>(cell + ".ids", 1);
            if (spec.extra) noise(12);
            put<int32_t>(cell + ".seq_id", static_cast<int32_t>(spec.stream));
        }
        put<uint32_t>(id + "v_trans", spec.transposed ? 1 : 0);
        put<uint32_t>(id + "layers", spec.layers);
        if (spec.rotation) {
            put<uint32_t>(id + "rotated_keys", 64);
            put<uint32_t>(id + "rotated_values", 0);
        }
        for (uint32_t layer = 0; layer < spec.layers; ++layer)
            rows(id + "key" + std::to_string(layer), spec.key_type, spec.width + 32 * layer, spec.cells);
        for (uint32_t layer = 0; layer < spec.layers; ++layer) {
            const std::string name = id + "value" + std::to_string(layer);
            const uint32_t width = spec.width + 32 * layer;
            if (!spec.transposed) {
                rows(name, spec.value_type, width, spec.cells);
                continue;
            }
            put<int32_t>(name + ".type", spec.value_type);
            put<uint32_t>(name + ".element", static_cast<uint32_t>(ggml_type_size(spec.value_type)));
            put<uint32_t>(name + ".width", width);
            noise(ggml_row_size(spec.value_type, width) * spec.cells);
        }
    }

    void rows(const std::string& name, ggml_type type, uint32_t width, uint32_t cells) {
        put<int32_t>(name + ".type", type);
        put<uint64_t>(name + ".row_bytes", ggml_row_size(type, width));
        noise(ggml_row_size(type, width) * cells);
    }

    std::mt19937 random_;
};

inline constexpr ggml_type kCacheTypes[] = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16,
                                            GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                            GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_IQ4_NL};

// A handful of small states that use every part of the format.
inline std::vector<SyntheticState> sample_states(uint32_t seed = 1) {
    std::vector<SyntheticState> states;
    states.push_back(SyntheticState(seed).section({}));
    states.push_back(SyntheticState(seed).section({.transposed = true}));
    states.push_back(SyntheticState(seed).section({.streams = 4, .stream = 2}));
    states.push_back(SyntheticState(seed).section({.extra = true, .key_type = GGML_TYPE_Q8_0}));
    states.push_back(
        SyntheticState(seed).section({.cells = 5, .value_type = GGML_TYPE_Q4_0}).section({.cells = 2}));
    states.push_back(SyntheticState(seed).section({.transposed = true}).recurrent({}));
    states.push_back(SyntheticState(seed)
                         .section({.extra = true, .transposed = true})
                         .section({.streams = 2, .stream = 1, .cells = 1, .extra = true})
                         .recurrent({.cells = 2}));
    return states;
}

} // namespace kvfold::testing
