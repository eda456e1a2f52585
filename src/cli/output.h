// Where results go: JSON to a file or standard output, and people's text beside it.
#pragma once

#include "base/file.h"
#include "base/json.h"

#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>

namespace kvfold::cli {

// Value of --json: empty = none, "-" = standard output, else a file.
struct JsonTarget {
    std::string file;
    bool wanted() const { return !file.empty(); }
    bool is_stdout() const { return file == "-"; }
    // Text for people gives way to JSON on standard output.
    FILE* human() const { return is_stdout() ? stderr : stdout; }
};

Status write_json(const JsonTarget& target, const OrderedJson& json);

using kvfold::check_can_write;
Status check_can_write(const JsonTarget& target);

// "47.2 MB": 10^6 bytes, as disks and downloads count.
std::string megabytes(size_t bytes);
// The same as a number, null when it is not known.
OrderedJson megabytes_json(const std::optional<size_t>& bytes);

// The word as a shell wants it.
std::string shell_word(const std::string& word);

// The last part of a path: results must not tell where somebody keeps files.
std::string file_name(const std::filesystem::path& path);

} // namespace kvfold::cli
