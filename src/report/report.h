// The HTML report of `kvfold eval`: one file with style, scripts and figures in it, which loads nothing.
#pragma once

#include "base/json.h"

#include <string>

namespace kvfold {

// `eval` is the document that `kvfold eval --json` writes; the page shows what is in it and leaves out the
// charts of what is not. No text in it can become markup or script. Bytes that are not UTF-8 show as U+FFFD.
std::string render_report(const OrderedJson& eval);

} // namespace kvfold
