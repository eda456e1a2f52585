#include "preload/real.h"

#include <dlfcn.h>

namespace kvfold::preload {

thread_local int Inside::depth_ = 0;

const RealFunctions& real() {
    static const RealFunctions functions = [] {
        RealFunctions found;
#ifdef __APPLE__ // calls out of an interposing library reach the original
#define KVFOLD_FIND(name) found.name = &::name;
#else
#define KVFOLD_FIND(name) found.name = reinterpret_cast<decltype(&::name)>(dlsym(RTLD_NEXT, #name));
#endif
        KVFOLD_WRAPPED_FUNCTIONS(KVFOLD_FIND)
#undef KVFOLD_FIND
        return found;
    }();
    return functions;
}

Status check_real() {
#define KVFOLD_CHECK_FOUND(name)                                                                             \
    if (real().name == nullptr) return fail(ErrorCode::unsupported, "its llama.cpp has no " #name);
    KVFOLD_WRAPPED_ALWAYS(KVFOLD_CHECK_FOUND)
#undef KVFOLD_CHECK_FOUND
    return {};
}

} // namespace kvfold::preload
