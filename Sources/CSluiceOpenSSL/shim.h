#ifndef SLUICE_OPENSSL_H
#define SLUICE_OPENSSL_H

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <string.h>

// What OpenSSL has as macros, which Swift does not see, under the names of those macros.

// What every connection has: no compression (CRIME), no renegotiation, no buffers while it
// is idle, and no certificates but those that were given.
static inline void sluice_SSL_CTX_harden(SSL_CTX *context) {
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
}

static inline void sluice_SSL_CTX_set_versions(SSL_CTX *context, int min, int max) {
  SSL_CTX_set_min_proto_version(context, min);
  SSL_CTX_set_max_proto_version(context, max);
}

static inline int sluice_SSL_CTX_set_groups(SSL_CTX *context, const char *groups) {
  return (int)SSL_CTX_set1_groups_list(context, groups);
}

static inline long sluice_SSL_CTX_set_session_cache_mode(SSL_CTX *context, long mode) {
  return SSL_CTX_set_session_cache_mode(context, mode);
}

static inline int sluice_SSL_CTX_add1_chain_cert(SSL_CTX *context, X509 *certificate) {
  return (int)SSL_CTX_add1_chain_cert(context, certificate);
}

static inline void sluice_SSL_CTX_set_tlsext_servername_callback(
    SSL_CTX *context, int (*callback)(SSL *, int *, void *), void *argument) {
  SSL_CTX_set_tlsext_servername_callback(context, callback);
  SSL_CTX_set_tlsext_servername_arg(context, argument);
}

static inline void sluice_SSL_CTX_set_tlsext_status_cb(
    SSL_CTX *context, int (*callback)(SSL *, void *), void *argument) {
  SSL_CTX_set_tlsext_status_cb(context, callback);
  SSL_CTX_set_tlsext_status_arg(context, argument);
}

static inline int sluice_SSL_set_tlsext_host_name(SSL *ssl, const char *name) {
  return (int)SSL_set_tlsext_host_name(ssl, name);
}

static inline void sluice_SSL_request_ocsp(SSL *ssl) { SSL_set_tlsext_status_type(ssl, TLSEXT_STATUSTYPE_ocsp); }

static inline long sluice_SSL_get_tlsext_status_ocsp_resp(SSL *ssl, unsigned char **response) {
  return SSL_get_tlsext_status_ocsp_resp(ssl, response);
}

static inline void sluice_SSL_set_tlsext_status_ocsp_resp(SSL *ssl, unsigned char *response, long length) {
  SSL_set_tlsext_status_ocsp_resp(ssl, response, length);
}

static inline int sluice_X509_NAME_print(BIO *output, const X509_NAME *name, bool in_one_line) {
  return X509_NAME_print_ex(output, name, 0, (in_one_line ? XN_FLAG_ONELINE : XN_FLAG_RFC2253) & ~ASN1_STRFLGS_ESC_MSB);
}

static inline void sluice_SSL_enable_ktls(SSL *ssl) { SSL_set_options(ssl, SSL_OP_ENABLE_KTLS); }

static inline void sluice_BIO_set_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline void sluice_BIO_clear_retry_flags(BIO *bio) { BIO_clear_retry_flags(bio); }

// HKDF-Expand-Label of RFC 8446 §7.1, without a context.
static inline bool sluice_expand_label(
    const EVP_MD *digest, const unsigned char *secret, size_t secret_length, const char *label, unsigned char *output,
    size_t length) {
  static const char prefix[] = "tls13 ";
  size_t prefix_length = sizeof prefix - 1, label_length = strlen(label);
  unsigned char info[64] = {(unsigned char)(length >> 8), (unsigned char)length};
  // Two bytes of length, and an empty context behind the label.
  size_t info_length = 2 + 1 + prefix_length + label_length + 1;
  if (digest == NULL || info_length > sizeof info) return false;
  info[2] = (unsigned char)(prefix_length + label_length);
  memcpy(info + 3, prefix, prefix_length);
  memcpy(info + 3 + prefix_length, label, label_length);
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
  bool is_done =
      context != NULL && EVP_PKEY_derive_init(context) > 0 &&
      EVP_PKEY_CTX_set_hkdf_mode(context, EVP_PKEY_HKDEF_MODE_EXPAND_ONLY) > 0 &&
      EVP_PKEY_CTX_set_hkdf_md(context, digest) > 0 &&
      EVP_PKEY_CTX_set1_hkdf_key(context, secret, (int)secret_length) > 0 &&
      EVP_PKEY_CTX_add1_hkdf_info(context, info, (int)info_length) > 0 &&
      EVP_PKEY_derive(context, output, &length) > 0;
  EVP_PKEY_CTX_free(context);
  return is_done;
}

static inline void *sluice_OPENSSL_malloc(size_t size) { return OPENSSL_malloc(size); }

static inline int sluice_sk_X509_num(const STACK_OF(X509) *stack) { return sk_X509_num(stack); }
static inline X509 *sluice_sk_X509_value(const STACK_OF(X509) *stack, int index) { return sk_X509_value(stack, index); }
static inline void sluice_sk_X509_free(STACK_OF(X509) *stack) { sk_X509_pop_free(stack, X509_free); }

static inline int sluice_sk_GENERAL_NAME_num(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }
static inline GENERAL_NAME *sluice_sk_GENERAL_NAME_value(const GENERAL_NAMES *names, int index) {
  return sk_GENERAL_NAME_value(names, index);
}

#endif
