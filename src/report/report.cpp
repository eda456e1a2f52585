#include "report/report.h"

#include "report/template.h"

#include <string_view>

namespace kvfold {
namespace {

constexpr std::string_view kPlace = "{{document}}";

// JSON that is inert inside <script>: a browser ends that element at "</script" and reads "<!--" in its own
// way, whatever the quotes around them. In JSON "<" stands in strings alone, where \u003c is the same.
std::string inert_json(const OrderedJson& document) {
    const std::string json = to_ascii(document);
    std::string inert;
    inert.reserve(json.size());
    for (const char c : json)
        c == '<' ? inert += "\\u003c" : inert += c;
    return inert;
}

} // namespace

std::string render_report(const OrderedJson& eval) {
    std::string page(report_template());
    return page.replace(page.find(kPlace), kPlace.size(), inert_json(eval));
}

} // namespace kvfold
