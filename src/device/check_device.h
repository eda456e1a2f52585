// Whether a device solves as the processor does.
#pragma once

#include "device/backend.h"

namespace kvfold::device {

// Solves a small layer of made-up heads on the device and by the processor, with all that methods ask for.
// Fails with unsupported where the device lacks something or is left out, and with numeric where what it
// leaves of the attention is a quarter more than what the processor leaves.
Status check_device(ggml_backend_dev_t device);

} // namespace kvfold::device
