#ifndef SLUICE_NATS_H
#define SLUICE_NATS_H

// Connections, subscriptions and authentication of cnats. Its JetStream calls wait for their answers; Sluice sends those requests itself, and does not.
#include <nats/nats.h>

#endif
