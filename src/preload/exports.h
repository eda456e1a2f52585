// How a wrapper asks whether its context is managed.
#pragma once

#include "preload/log.h"
#include "preload/once.h"
#include "preload/real.h"
#include "preload/registry.h"

#include <functional>

#define KVFOLD_EXPORT extern "C" __attribute__((visibility("default")))

#define KVFOLD_TEXT_OF(token) #token
#define KVFOLD_TEXT(macro) KVFOLD_TEXT_OF(macro)

// macOS does not look a name up in preloaded libraries first: there the table in interpose.cpp says what
// stands for what.
#ifdef KVFOLD_INTERPOSE
#define KVFOLD_WRAPPER(name) wrapped_##name
#define KVFOLD_WRAPPER_NAMED(name) asm(KVFOLD_TEXT(__USER_LABEL_PREFIX__) "wrapped_" #name)
#else
#define KVFOLD_WRAPPER(name) name
#define KVFOLD_WRAPPER_NAMED(name) asm(KVFOLD_TEXT(__USER_LABEL_PREFIX__) #name)
#endif

namespace kvfold::preload {

// What `call` answers when the context or memory is managed; else, and where kvfold fails before it, what the
// original does. The original is called once.
template <class Key, class Call, class Own> auto on_managed(Key key, Call call, Own own) -> decltype(own()) {
    if (Inside::now()) return own();
    Once<Own> once(std::move(own));
    const std::function<decltype(own())()> original = std::ref(once);
    try {
        if (const auto managed = Registry::get().find(key)) return call(*managed, original);
    } catch (const std::exception& error) {
        log_error("internal error: {}; the program gets what llama.cpp gives", error.what());
    }
    return original();
}

// Bookkeeping beside a call that is passed on as it is.
template <class Work> void note(Work work) {
    if (Inside::now()) return;
    try {
        work();
    } catch (const std::exception& error) {
        log_error("internal error: {}", error.what());
    }
}

} // namespace kvfold::preload
