// The backends of llama.cpp builds that keep them in separate libraries.
#pragma once

namespace kvfold::cli {

// Loads those that lie where llama.cpp was told at compile time, or beside the program; where there are none,
// those beside ggml's own library. llama.cpp's own programs lie beside them, kvfold need not. Before a model
// is loaded.
void load_backends();

} // namespace kvfold::cli
