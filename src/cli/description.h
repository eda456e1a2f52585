// What the command line says of itself, as plain text: for completions and the manual page, which are made of
// it when kvfold is built and so never say anything else than kvfold --help.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace kvfold::cli {

struct OptionText {
    std::vector<std::string> names;   // "-m", "--model"; of a positional argument that alone, without dashes
    std::string value;                // as --help shows it: "N", "[FILE]", "NAME,..."; empty = takes none
    std::vector<std::string> choices; // all values that there are; empty = others
    std::string help;
    bool is_positional = false, needs_value = false, is_list = false, is_file = false;
};

struct CommandText {
    std::string name, summary, footer;
    std::vector<OptionText> options; // positional ones too
};

// What a validator says of itself whose choices can be listed, as CLI::IsMember does. choices: "a,b,c"
inline std::string choices_text(const std::string& choices) { return "{" + choices + "}"; }

// Without what --help hides, in its order; the program's own options under its own name, first.
std::vector<CommandText> describe_commands(const CLI::App& app);

// The scripts of three shells, and the page kvfold.1.
std::string bash_completion(const std::vector<CommandText>& commands);
std::string zsh_completion(const std::vector<CommandText>& commands);
std::string fish_completion(const std::vector<CommandText>& commands);
std::string manual_page(const std::vector<CommandText>& commands);

} // namespace kvfold::cli
