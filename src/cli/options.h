// Options that several subcommands share, named as llama.cpp names them.
#pragma once

#include "base/limits.h"
#include "cli/output.h"
#include "device/devices.h"
#include "fit/regions.h"
#include "method/method.h"

#include <CLI/CLI.hpp>
#include <ggml.h>

namespace kvfold::cli {

struct ModelOptions {
    std::string path;
    int gpu_layers = -1;  // -1 = all
    int threads = 0;      // 0 = one for each processor
    uint32_t context = 0; // cells; 0 = as many as needed
    std::string keys = "f16", values = "f16";
    std::vector<std::string> loras, control_vectors; // FILE or FILE:SCALE
    SolveOn solve_on = SolveOn::automatic;           // of commands that fold
};

// -m, -t, -ngl, --lora, --control-vector
void add_model_options(CLI::App& command, ModelOptions& options);

// -c; `when_absent` says what happens without it.
void add_context_option(CLI::App& command, uint32_t& context, const std::string& when_absent);

// -ctk, -ctv
std::pair<CLI::Option*, CLI::Option*> add_cache_type_options(CLI::App& command, ModelOptions& options);

// --solve-on, of commands that fold
void add_solve_on_option(CLI::App& command, ModelOptions& options);

// --session, of commands that fold a full sequence themselves
CLI::Option* add_full_slot_option(CLI::App& command, std::string& path);

// --keep-first, --keep-last
void add_budget_options(CLI::App& command, Budget& budget);

// --recall, of commands that answer questions. cells: the default.
CLI::Option* add_recall_option(CLI::App& command, size_t& cells);

// The two together: "--json" alone means standard output.
void add_json_option(CLI::App& command, JsonTarget& target);

// For commands with a positional argument, which "--json FILE" would swallow: "--json" or "--json=FILE".
void add_json_flag(CLI::App& command, JsonTarget& target);

// REQUIRES: a name that the option's check accepted.
ggml_type cache_type(const std::string& name);
CLI::Validator cache_type_check();

// Of the solver's kernels in use. REQUIRES: chosen_kernels has succeeded, as it has when a command runs.
std::string_view kernels_name();

// The command as it could be typed again, for a report that is passed on: options as they were given, files
// by their names alone, without where results go.
std::string command_line(const CLI::App& command);

// The range of a value, as base/limits.h says it.
CLI::Validator limit_check(const Limit& limit);
CLI::Validator method_check();
CLI::Validator solve_on_check();

// Takes the first "--" and all that stands behind it out of the arguments; answers what stood behind it. For
// commands that start a program: CLI11 would read options out of the program's words.
std::vector<std::string> take_words_behind_dashes(std::vector<std::string>& arguments);

// CLI11 knows short options of one letter only; llama.cpp's users type -ctk, -ctv and -ngl. Stops at "--".
void accept_llama_spellings(std::vector<std::string>& arguments);

} // namespace kvfold::cli
