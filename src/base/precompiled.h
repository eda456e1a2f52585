// The headers that nearly every file reads and that take longest to read: compiled once for each kind of
// target. Files still include what they use.
#pragma once

#include <Eigen/Core>
#include <fmt/core.h>
#include <llama.h>
#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>
