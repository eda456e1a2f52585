// The environment that this process hands on: without kvfold in it, programs that it starts are on their own.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace kvfold::preload {

// `libraries` as LD_PRELOAD has them, but for `library`, whatever path names it. What parts the others stays.
std::string without_library(std::string_view libraries, const std::filesystem::path& library);

// Takes this library out of LD_PRELOAD, and the variable away where it was the only one.
void leave_environment();

} // namespace kvfold::preload
