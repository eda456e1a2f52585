#include "cli/output.h"

#include "base/format.h"

namespace kvfold::cli {

Status write_json(const JsonTarget& target, const OrderedJson& json) {
    if (!target.wanted()) return {};
    const std::string text = to_text(json, /*indent=*/2) + "\n";
    if (!target.is_stdout()) return write_file(target.file, text);
    kvfold::print(stdout, "{}", text);
    return {};
}

Status check_can_write(const JsonTarget& target) {
    if (!target.wanted() || target.is_stdout()) return {};
    return kvfold::check_can_write(std::filesystem::path(target.file));
}

std::string megabytes(size_t bytes) {
    const double mb = static_cast<double>(bytes) / 1e6;
    return mb < 0.1 ? kvfold::format("{:.3f} MB", mb) : kvfold::format("{:.1f} MB", mb);
}

OrderedJson megabytes_json(const std::optional<size_t>& bytes) {
    return bytes ? OrderedJson(static_cast<double>(*bytes) / 1e6) : OrderedJson(nullptr);
}

std::string shell_word(const std::string& word) {
    const auto is_plain = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) ||
               std::string_view("_-./+=:,@%").find(c) != std::string_view::npos;
    };
    if (!word.empty() && std::all_of(word.begin(), word.end(), is_plain)) return word;
    std::string quoted = "'";
    for (const char c : word)
        quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return quoted + "'";
}

std::string file_name(const std::filesystem::path& path) { return path.filename().string(); }

} // namespace kvfold::cli
