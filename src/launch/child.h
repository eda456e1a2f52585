// Starts a program with the preload library in it and tells how it ended.
#pragma once

#include "launch/forwarded_signals.h"
#include "launch/settings.h"

#include <filesystem>
#include <vector>

namespace kvfold::launch {

struct ProgramPlan {
    std::filesystem::path program;  // as find_program found it
    std::vector<std::string> words; // argv, the program's name included; not empty
    std::filesystem::path library;  // goes behind what LD_PRELOAD holds already
    PreloadSettings settings;
};

struct ProgramEnd {
    int code = 0;   // as shells count: what it returned, or 128 + signal
    int signal = 0; // that ended it; 0 when it returned
};

// The program's signals are at their defaults wherever kvfold has changed them, none is blocked, and
// everything else is as it is here. It goes on when kvfold is killed.
Result<pid_t> start_program(const ProgramPlan& plan);

// REQUIRES: `signals` was made before the program started. heard: called with each signal that it gets.
Result<ProgramEnd> wait_for_program(pid_t program, ForwardedSignals& signals,
                                    const std::function<void(int)>& heard);

// This process's environment with the library and the settings in it: NAME=value each.
Result<std::vector<std::string>> program_environment(const ProgramPlan& plan);

} // namespace kvfold::launch
