// The two things that a connection waits for besides its socket: room for more audio, and its deadline.
//
//   SessionTimers timers(executor);
//   asio::co_spawn(executor, timers.Watch(self), asio::detached);     // calls OnDeadline when it is due
//   while (!self->MayRead()) co_await timers.WaitForRoom();
//   timers.Wake();                                                    // room has come, or the end
//
// On the connection's executor.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <memory>

#include "src/serve/stream_connection.h"

namespace earshot {

class SessionTimers {
 public:
  template <class Executor>
  explicit SessionTimers(const Executor& executor) : room_(executor), deadline_(executor) {}

  // Until the session, which owns these timers, has ended.
  boost::asio::awaitable<void> Watch(std::shared_ptr<StreamConnection> session) {
    while (!session->ended()) {
      deadline_.expires_at(session->Deadline());
      boost::system::error_code error;
      co_await deadline_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, error));
      // What happened since has moved the deadline on.
      if (!session->ended() && std::chrono::steady_clock::now() >= session->Deadline()) session->OnDeadline();
    }
  }

  // Looks again now and then: room also comes without an update, where samples go to wait for their chunk.
  boost::asio::awaitable<void> WaitForRoom() {
    room_.expires_after(std::chrono::milliseconds(50));
    boost::system::error_code error;
    co_await room_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, error));
  }

  void Wake() { room_.cancel(); }
  // The deadline is another one now, or matters no more.
  void Reconsider() { deadline_.cancel(); }

 private:
  boost::asio::steady_timer room_, deadline_;
};

}  // namespace earshot
