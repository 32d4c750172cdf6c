#ifndef SLUICE_HIREDIS_H
#define SLUICE_HIREDIS_H

// The parser of RESP and its tree of replies. Sockets, TLS and everything that waits are Sluice's own.
#include <hiredis/hiredis.h>

#endif
