// Whether the llama.cpp of this process is one that kvfold can work with: found by what it does, not by its
// name. Its version string does not tell builds apart, and distributions ship what they like.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>
#include <vector>

namespace kvfold {

struct LlamaCheck {
    std::string_view about;
    Status result; // fails with `unsupported` and what differs
};

// All checks that need no model, in the order in which each can rely on those before. What needs a model is
// asked by probe_attention: a state is written, parsed to its last byte, and read back.
std::vector<LlamaCheck> check_llama_parts();

// The first of them that failed; asked once in a process.
Status check_llama();

// "0.5.0-dev"; "of unknown version" before llama.cpp told.
std::string llama_version_name();

// That of the headers that kvfold was compiled with.
std::string_view compiled_llama_version();

// The file that holds a function of llama.cpp or ggml; empty when there is none.
std::string library_of(const char* function);

// One line for a version that kvfold's tests have not run with; empty for the others.
std::string untested_llama_warning();

} // namespace kvfold
