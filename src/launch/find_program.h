// Where things lie: the program to start, llama-server, the preload library.
#pragma once

#include "base/result.h"

#include <filesystem>

namespace kvfold::launch {

// As a shell finds it: a name with a slash is a path, any other is looked for in PATH.
Result<std::filesystem::path> find_program(const std::string& name);

// In $KVFOLD_LLAMA_PREFIX/bin; without that variable in the llama.cpp that kvfold was built against, then in
// PATH.
Result<std::filesystem::path> find_llama_server();

// $KVFOLD_PRELOAD_LIBRARY, else beside this program: ../lib and the folders that distributions use. Absolute,
// for the program may run elsewhere.
Result<std::filesystem::path> find_preload_library();

} // namespace kvfold::launch
