// render_report < eval.json > report.html: the report alone, for the tests in a browser.
#include "report/report.h"

#include <cstdio>
#include <iostream>

int main() {
    const auto eval = nlohmann::ordered_json::parse(std::cin, nullptr, /*allow_exceptions=*/false);
    if (eval.is_discarded()) {
        std::fputs("render_report: standard input is not JSON\n", stderr);
        return 2;
    }
    std::cout << kvfold::render_report(eval);
    return std::cout.flush() ? 0 : 1;
}
