// Hands work from other threads to a connection's own, for as long as there is a server to do it: an io_context that is
// being destroyed must not be handed any, since asio's strands write a queue of theirs outside their lock.
//
//   WorkGate gate;
//   const WorkGate::Post post = gate.To(socket.get_executor());
//   post([] { ... });    // on any thread: runs on the executor, later
//   gate.Close();        // after the threads have ended, before the io_context does
//
// Thread-safe.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

namespace earshot {

class WorkGate {
 public:
  using Post = std::function<void(std::function<void()>)>;

  // The function may outlive the gate.
  Post To(boost::asio::any_io_executor executor) const {
    return [state = state_, executor = std::move(executor)](std::function<void()> work) {
      const std::lock_guard lock(state->mutex);
      if (state->open) boost::asio::post(executor, std::move(work));
    };
  }

  // From here on work is dropped; what is being handed over has been.
  void Close() {
    const std::lock_guard lock(state_->mutex);
    state_->open = false;
  }

 private:
  struct State {
    std::mutex mutex;
    bool open = true;
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace earshot
