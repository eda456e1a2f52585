// Whether cells are of a model: what comes from a file is compared before anything looks at it.
#pragma once

#include "model/probe.h"
#include "state/kv_section.h"

#include <string>

namespace kvfold {

// What differs between the layers of a section that has some and the model's, for a person; empty: nothing.
std::string differs_in_layers(const AttentionMap& map, const KvSection& section);

} // namespace kvfold
