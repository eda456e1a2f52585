// The page as text: what is in the document stays text, and nothing is loaded from elsewhere.
#include "report/report.h"
#include "report/template.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

constexpr std::string_view kOpening = "<script type=\"application/json\" id=\"document\">";

size_t count(std::string_view text, std::string_view word) {
    size_t found = 0;
    for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + word.size()))
        ++found;
    return found;
}

// As a browser reads it: from the opening tag to the first closing one.
std::string embedded(std::string_view page) {
    const size_t begin = page.find(kOpening) + kOpening.size();
    return std::string(page.substr(begin, page.find("</script", begin) - begin));
}

TEST(Report, HoldsTheDocumentAsItIs) {
    const OrderedJson eval =
        OrderedJson::parse(R"({"model":"m","rows":[{"method":"refine","kl":0.125,"peak_extra_mb":null}]})");
    EXPECT_EQ(OrderedJson::parse(embedded(render_report(eval))), eval);
}

TEST(Report, NamesWithMarkupStayText) {
    const std::string name =
        "</script><script>alert(1)</script><!--<script>&\"'\\ {{document}} \xe2\x80\xa8 \x7f";
    const OrderedJson eval = {{"model", name}, {"rows", OrderedJson::array()}, {name, name}};
    const std::string page = render_report(eval), plain = render_report(OrderedJson::object());
    for (const char* word : {"<script", "</script", "<!--"})
        EXPECT_EQ(count(page, word), count(plain, word)) << word;
    EXPECT_EQ(OrderedJson::parse(embedded(page)), eval);
}

// The twin of the one above: as dump() writes it, the name ends the element.
TEST(Report, MarkupThatIsNotEscapedWouldBeNoticed) {
    const OrderedJson eval = {{"model", "</script><script>alert(1)</script>"}};
    std::string page(report_template());
    page.replace(page.find("{{document}}"), 12, eval.dump());
    EXPECT_NE(count(page, "<script"), count(render_report(OrderedJson::object()), "<script"));
    EXPECT_FALSE(OrderedJson::accept(embedded(page)));
}

TEST(Report, BytesThatAreNotUtf8BecomeReplacementCharacters) {
    const OrderedJson eval = {{"model", "a\xff"
                                        "b"}};
    EXPECT_EQ(OrderedJson::parse(embedded(render_report(eval)))["model"], "a\xef\xbf\xbd"
                                                                          "b");
}

TEST(Report, LoadsNothing) {
    const std::string page = render_report(OrderedJson::object());
    EXPECT_EQ(count(page, " src="), 0u);
    EXPECT_EQ(count(page, "@import"), 0u);
    EXPECT_EQ(count(page, "fetch("), 0u);
    EXPECT_EQ(count(page, "url("), 0u);
    EXPECT_EQ(count(page, "<link"), count(page, "<link rel=\"icon\" href=\"data:"));
    EXPECT_NE(page.find("default-src 'none'"), page.npos);
}

} // namespace
} // namespace kvfold
