// Named figures for those who write JSON; no header of nlohmann is needed to name its types.
#pragma once

#include "fit/fit.h"

#include <string>

namespace kvfold {

// {"heads refitted": 12}. Json: one of nlohmann's, with keys in any order or in that of the figures.
template <class Json> Json figures_json(const std::vector<Figure>& figures) {
    Json json = Json::object();
    for (const Figure& figure : figures)
        json[std::string(figure.name)] = figure.value;
    return json;
}

} // namespace kvfold
