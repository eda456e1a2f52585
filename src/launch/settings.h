// What `kvfold run` tells the preload library: one JSON object in one environment variable. Both sides
// have this file, so that they cannot disagree.
#pragma once

#include "base/result.h"

#include <array>
#include <optional>
#include <string_view>

namespace kvfold::launch {

inline constexpr const char* kSettingsVariable = "KVFOLD_PRELOAD";

// What names the libraries to load first. Entries are parted by colons; Linux takes blanks too.
#ifdef __APPLE__ // untested; the system drops it for its own programs
inline constexpr const char* kLibrariesVariable = "DYLD_INSERT_LIBRARIES";
#else
inline constexpr const char* kLibrariesVariable = "LD_PRELOAD";
#endif

// Whoever leads kvfold itself to its llama.cpp by the library path puts the former path there. The program
// gets that one back: it has a llama.cpp of its own.
inline constexpr const char* kLibraryPathBefore = "KVFOLD_LIBRARY_PATH_BEFORE";
#ifdef __APPLE__ // untested
inline constexpr const char* kLibraryPathVariable = "DYLD_LIBRARY_PATH";
#else
inline constexpr const char* kLibraryPathVariable = "LD_LIBRARY_PATH";
#endif

// From silent to talkative; the place of a name is the number of preload::LogLevel.
inline constexpr std::array<std::string_view, 5> kLogLevels = {"off", "error", "warn", "info", "debug"};

inline constexpr int kLargestVirtual = 1024;

// An empty field was not given by the user: with none of them the library only observes.
struct PreloadSettings {
    int virtual_factor = 1;            // "virtual": the program is told of this many times its cells; 1..1024
    std::optional<double> ratio;       // these and their ranges: engine/policy.h
    std::optional<std::string> method; // a name of find_method; not checked here, which knows no methods
    std::optional<std::string> solve_on; // one of kSolveOnNames (device/devices.h); not checked here
    std::optional<double> high_water;
    std::optional<int> keep_first, keep_last;
    // MiB of each context for what folds replace; none given: a part of the free memory.
    std::optional<int> archive;
    std::optional<std::string> archive_dir; // where it is written beside slot files, and found again
    std::optional<int> recall;              // cells of each head that a prompt takes out of the archive
    std::string log = "info";               // one of kLogLevels
    std::optional<std::string> control;     // the socket that every process of the program connects to

    bool operator==(const PreloadSettings&) const = default;
};

// One line of JSON; fields that were not given are left out.
std::string to_json(const PreloadSettings& settings);

// Strict: an unknown field, a wrong type or a value out of range is an error that names the field.
Result<PreloadSettings> from_json(std::string_view text);

} // namespace kvfold::launch
