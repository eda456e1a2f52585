#include "method/method.h"

#include "base/format.h"

#include <array>

namespace kvfold {

std::span<const Method* const> all_methods() {
    static constexpr std::array methods = {&methods::balanced,
                                           &methods::best,
                                           &methods::fast,
                                           &methods::refine,
                                           &methods::omp_refine,
                                           &methods::self_study,
                                           &methods::solver,
                                           &methods::omp,
                                           &methods::on_policy,
                                           &methods::sequential_on_policy,
                                           &methods::nonuniform,
                                           &methods::select,
                                           &methods::context_prefill,
                                           &methods::generation,
                                           &methods::chunked,
                                           &methods::keep_last,
                                           &methods::keep_first,
                                           &methods::keep_random};
    return methods;
}

const Method& default_method() { return *all_methods().front(); }

Result<const Method*> find_method(std::string_view name) {
    for (const Method* method : all_methods())
        if (method->name == name) return method;
    return fail(ErrorCode::invalid_argument, "no method '{}'; there are {}", name,
                joined(all_methods(), ", ", &Method::name));
}

} // namespace kvfold
