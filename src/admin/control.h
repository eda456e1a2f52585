// What the processes that hold caches can be asked. The questions and answers are JSON objects:
//   {"op":"state"}                                        -> the state that GET /state answers
//   {"op":"methods"}                                      -> {"methods":[{"name":"..","advice":".."}, ...]}
//   {"op":"compact","id_slot":0,"method":"..","ratio":4.0} -> {"job":7,"process":123}
//   {"op":"unfold","id_slot":0}                           -> {"success":true,"cells":1024}
//   {"op":"job","job":7}                                  -> {"done":false}, or done with "result" or "error"
//   {"op":"policy","ratio":4.0, ...}                      -> {"policy":{...}}
//   {"op":"processes"}                                    -> {"processes":[{"pid":123,"program":"..",
//       "file":"..","model":"..","cells":1,"virtual_cells":1,"managed":true,"answers":true,"busy_s":0.0},
//       ...]} at once. busy_s: for how long the call into llama.cpp that runs has taken; 0: none runs
//   {"op":"states"}                                       -> the same without the last two, with the "state"
//   of
//                                                            each that answers
// All but the last two take "process":123; without it, as Processes in src/launch/ says.
// Any of them may answer {"error":{"code":404,"message":"..."}}, code being an HTTP status.
#pragma once

#include "base/json.h"
#include "base/result.h"

namespace kvfold::admin {

class Control {
  public:
    virtual ~Control() = default;

    // One object in, one out; an Error when nobody answers. Called from several threads at once.
    virtual Result<Json> ask(const Json& request) = 0;
};

} // namespace kvfold::admin
