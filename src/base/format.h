// Text from format strings of {fmt}, which are checked when compiled. What formats is compiled in one place,
// format.cpp: in every file that formats, it was the greater part of compiling.
#pragma once

#include <fmt/core.h>

#include <cstdio>
#include <string>
#include <string_view>

namespace kvfold {

std::string format_arguments(fmt::string_view format, fmt::format_args arguments);
void print_arguments(std::FILE* stream, fmt::string_view format, fmt::format_args arguments);

// Call it by its whole name: std::format would take part in the choice where an argument is of std.
template <class... Args> std::string format(fmt::format_string<Args...> format, Args&&... args) {
    return format_arguments(format, fmt::make_format_args(args...));
}

template <class... Args> void print(std::FILE* stream, fmt::format_string<Args...> format, Args&&... args) {
    print_arguments(stream, format, fmt::make_format_args(args...));
}

template <class Names> std::string joined(const Names& names, std::string_view between) {
    std::string text;
    for (const auto& name : names)
        text.append(text.empty() ? "" : between).append(name);
    return text;
}

} // namespace kvfold
