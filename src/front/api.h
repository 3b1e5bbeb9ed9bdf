/* The handlers that routes.c names, one file per dialect. */
#ifndef MOULT_FRONT_API_H
#define MOULT_FRONT_API_H

#include <stddef.h>

struct moult_http_request;

/* api_own.c: the question's own endpoints. */
void moult_own_query(struct moult_http_request *request);
void moult_own_updates(struct moult_http_request *request);
void moult_own_update(struct moult_http_request *request);
void moult_own_update_start(struct moult_http_request *request);
void moult_own_update_cut_over(struct moult_http_request *request);
void moult_own_update_cancel(struct moult_http_request *request);
void moult_own_rollback(struct moult_http_request *request);

/* api_openai.c */
void moult_openai_embeddings(struct moult_http_request *request);

/* api_tei.c */
void moult_tei_embed(struct moult_http_request *request);

/* api_leases.c */
void moult_leases_list(struct moult_http_request *request);
void moult_leases_show(struct moult_http_request *request);
void moult_leases_make(struct moult_http_request *request);
void moult_leases_renew(struct moult_http_request *request);
void moult_leases_end(struct moult_http_request *request);

/* api_documents.c */
void moult_documents_put(struct moult_http_request *request);
void moult_documents_delete(struct moult_http_request *request);
void moult_documents_delete_one(struct moult_http_request *request);

/* api_documents_read.c */
void moult_documents_show(struct moult_http_request *request);
void moult_documents_list(struct moult_http_request *request);

/* api_collections.c */
void moult_collections_list(struct moult_http_request *request);
void moult_collections_show(struct moult_http_request *request);
void moult_collections_drop(struct moult_http_request *request);

/* api_search.c */
void moult_search_ask(struct moult_http_request *request);
/* For GET /?q=, where there is a store. */
void moult_search_question(struct moult_http_request *request, const char *q, size_t size);

/* api_metrics.c */
void moult_metrics_show(struct moult_http_request *request);

/* api_info.c: what is served, in OpenAI's and TEI's shape. */
void moult_openai_models(struct moult_http_request *request);
void moult_openai_model(struct moult_http_request *request);
void moult_info_show(struct moult_http_request *request);
void moult_info_health(struct moult_http_request *request);
void moult_info_ready(struct moult_http_request *request);
void moult_info_live(struct moult_http_request *request);

#endif
