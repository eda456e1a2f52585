#include "solve/kernels.h"

#include "solve/variants.h"

#include <cstdlib>

namespace kvfold {

std::vector<const Kernels*> usable_kernels() {
    std::vector<const Kernels*> usable;
#ifdef KVFOLD_DISPATCH
    if (processor_has_avx512()) usable.push_back(&kvfold_kernels_avx512);
    if (processor_has_avx2()) usable.push_back(&kvfold_kernels_avx2);
#endif
    usable.push_back(&kvfold_kernels_plain);
    return usable;
}

Result<const Kernels*> choose_kernels(const std::vector<const Kernels*>& usable, std::string_view wanted) {
    if (wanted.empty()) return usable.front();
    for (const Kernels* kernels : usable)
        if (kernels->name == wanted) return kernels;
    return fail(ErrorCode::invalid_argument, "KVFOLD_KERNELS={}: this build on this processor has {}", wanted,
                joined(usable, ", ", &Kernels::name));
}

Result<const Kernels*> chosen_kernels() {
    static const Result<const Kernels*> chosen = [] {
        const char* const wanted = std::getenv("KVFOLD_KERNELS");
        return choose_kernels(usable_kernels(), wanted ? wanted : "");
    }();
    return chosen;
}

} // namespace kvfold
