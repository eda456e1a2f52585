// What must hold of any bytes that come as a request to the admin server, as settings of the preload library,
// as an address, as a token file or as what a process says on the control channel.
#pragma once

#include "admin/options.h"
#include "admin/request_body.h"
#include "launch/settings.h"

#include <cstdint>
#include <functional>
#include <span>

namespace kvfold::testing {

struct Parsers {
    std::function<Result<Json>(std::string_view)> compact = admin::compact_request;
    std::function<Result<Json>(std::string_view)> unfold = admin::unfold_request;
    std::function<Result<Json>(std::string_view)> policy = admin::policy_request;
    std::function<Result<launch::PreloadSettings>(std::string_view)> settings = launch::from_json;
    std::function<std::string(const launch::PreloadSettings&)> settings_text = launch::to_json;
    std::function<Result<admin::AdminOptions>(std::string_view)> address = admin::parse_address;
    std::function<Result<std::string>(const std::filesystem::path&)> token = admin::read_token;
};

// What is wrong; empty when all is as it must be:
// - an error is one line;
// - a request that is accepted has values that the other side can use, and is accepted again;
// - settings and addresses that are accepted are the same when they are written down and read again;
// - a token can stand in an HTTP header.
std::string wrong_with_requests(std::span<const uint8_t> bytes, const Parsers& parsers);

// An answer is an object without the id, and can be told on.
std::string wrong_with_answer(std::span<const uint8_t> bytes);

// A process that is listed has a number that can be asked for, and what is said of it is one line.
std::string wrong_with_hello(std::span<const uint8_t> bytes);

// The three above with kvfold's own parsers.
std::string wrong_with_request_bytes(std::span<const uint8_t> bytes);

} // namespace kvfold::testing
