#include "preload/real.h"

#include <dlfcn.h>

namespace kvfold::preload {

thread_local int Inside::depth_ = 0;

const RealFunctions& real() {
    static const RealFunctions functions = [] {
        RealFunctions found;
#define KVFOLD_FIND(name) found.name = reinterpret_cast<decltype(&::name)>(dlsym(RTLD_NEXT, #name));
        KVFOLD_WRAPPED_FUNCTIONS(KVFOLD_FIND)
#undef KVFOLD_FIND
        return found;
    }();
    return functions;
}

} // namespace kvfold::preload
