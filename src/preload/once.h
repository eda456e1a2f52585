// The program's own call: made once, whatever goes wrong beside it.
#pragma once

#include <optional>
#include <type_traits>
#include <utility>

namespace kvfold::preload {

// Calls the function when it is first asked, and answers the same ever after.
template <class Call> class Once {
  public:
    using Answer = std::invoke_result_t<Call&>;
    explicit Once(Call call) : call_(std::move(call)) {}
    Once(const Once&) = delete;
    Once& operator=(const Once&) = delete;

    Answer operator()() {
        if constexpr (std::is_void_v<Answer>) {
            if (!std::exchange(is_called_, true)) call_();
        } else {
            if (!std::exchange(is_called_, true)) answer_ = call_();
            return answer_;
        }
    }

  private:
    struct Nothing {};
    Call call_;
    bool is_called_ = false;
    std::conditional_t<std::is_void_v<Answer>, Nothing, Answer> answer_{};
};

} // namespace kvfold::preload
