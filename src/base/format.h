// Text from format strings of {fmt}, which are checked when compiled. What formats is compiled in one place,
// format.cpp: in every file that formats, it was the greater part of compiling.
#pragma once

#include <fmt/core.h>

#include <cstdio>
#include <functional>
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

// name: what an item adds to the text, a member or a function.
template <class Items, class Name = std::identity>
std::string joined(const Items& items, std::string_view between, Name name = {}) {
    std::string text;
    for (const auto& item : items)
        text.append(text.empty() ? "" : between).append(std::invoke(name, item));
    return text;
}

} // namespace kvfold
