// Only a program that loads llama.cpp as a shared library can be helped: the preload library stands in
// between.
#pragma once

#include "base/result.h"

#include <filesystem>

namespace kvfold::launch {

// An error when `program` is a script, is linked statically, does not load libllama.so or cannot be loaded.
// Asks the program's own loader, which knows the libraries of the libraries, so libllama.so may be a
// dependency of one (llama-server is such a program). A program that opens it later by itself (dlopen) is
// refused.
Status check_loads_llama(const std::filesystem::path& program);

} // namespace kvfold::launch
