// SPDX-License-Identifier: GPL-2.0-or-later
// A non-owning reference to something callable, for callbacks that do not outlive the call they
// are passed to: one indirect call, no allocation.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace dmchain {

template <typename Signature>
class FunctionRef;

template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
public:
    template <typename F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<R, F&, Args...>)
        // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): the constraint is what the check asks for
        FunctionRef(F&& f)
        : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))), call_([](void* object, Args... args) -> R {
              return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
          }) {}

    R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

private:
    void* object_;
    R (*call_)(void*, Args...);
};

}  // namespace dmchain
