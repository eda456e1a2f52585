#include "engine/layers.h"

#include "base/format.h"

namespace kvfold {

std::string differs_in_layers(const AttentionMap& map, const KvSection& section) {
    const auto& layers = map.layers;
    if (section.keys.size() != layers.size() || section.values.size() != layers.size())
        return kvfold::format("it holds {} layers, the model has {}", section.keys.size(), layers.size());
    for (size_t i = 0; i < layers.size(); ++i) {
        const Index keys = layers[i].kv_heads * layers[i].key_width,
                    values = layers[i].kv_heads * layers[i].value_width;
        if (section.keys[i].width != keys || section.values[i].width != values)
            return kvfold::format("its layer {} is {} keys and {} values wide, the model's {} and {}", i,
                                  section.keys[i].width, section.values[i].width, keys, values);
    }
    return {};
}

} // namespace kvfold
