/* Every limit of the program, with its unit and reason. A limit that a person
 * may want to move has an option of `moult serve`; the rest hold always. */
#ifndef MOULT_BASE_LIMITS_H
#define MOULT_BASE_LIMITS_H

#define MOULT_KIB (1024ul)
#define MOULT_MIB (1024ul * MOULT_KIB)
#define MOULT_GIB (1024ul * MOULT_MIB)

/* HTTP. */
#define MOULT_BODY_BYTES_MAX (16 * MOULT_MIB)      /* --max-body; 2,048 texts of 8 KB. */
#define MOULT_BODY_BYTES_ON_LOOP (16 * MOULT_KIB)  /* Larger ones are parsed off the loop: jansson
                                                      does 72 MB/s. */
#define MOULT_BODIES_BYTES_MAX (256 * MOULT_MIB)   /* All in flight together: holds back reading. */
#define MOULT_HEADER_BYTES_MAX (16 * MOULT_KIB)    /* A GET /?q= carries its text here. */
#define MOULT_CONNECTIONS_MAX 10240
#define MOULT_IDLE_SECONDS_MAX 75                  /* Longer than proxies usually keep one. */
#define MOULT_URL_BYTES_MAX (12 * MOULT_KIB)

/* JSON. */
#define MOULT_JSON_DEPTH_MAX 64

/* Requests. */
#define MOULT_TEXTS_PER_REQUEST_MAX 2048           /* OpenAI's own. */
#define MOULT_WAITING_TEXTS_MAX 512                /* --max-waiting. */
#define MOULT_MODEL_NAME_BYTES_MAX 64              /* A slot's name. */
#define MOULT_HITS_MAX 1000                        /* Of one query. */
#define MOULT_FILTER_ROWS_MAX (1u << 28)           /* A bit for each row: 32 MiB. */
#define MOULT_CHUNK_TOKENS_MIN 8                   /* Room for a few words beside special tokens. */
#define MOULT_CHANGES_MAX 131072                   /* To an index, in one message: 3 MiB. */

/* Models. */
#define MOULT_MODEL_FILE_BYTES_MAX (16 * MOULT_GIB)
#define MOULT_MODEL_FILES_MAX 256
#define MOULT_SMALL_FILE_BYTES_MAX (4 * MOULT_MIB) /* config.json and its like. */
#define MOULT_TOKENIZER_BYTES_MAX (64 * MOULT_MIB) /* Multilingual vocabularies have 17 MB. */
#define MOULT_SAFETENSORS_HEADER_BYTES_MAX (64 * MOULT_MIB)
#define MOULT_TENSORS_MAX 65536
#define MOULT_DIMENSIONS_MAX 8192
#define MOULT_LAYERS_MAX 128
#define MOULT_TOKENS_PER_TEXT_MAX 32768
#define MOULT_VOCABULARY_MAX (4 * 1024 * 1024)
#define MOULT_VOCABULARY_TEXT_BYTES_MAX (32 * MOULT_MIB) /* Tokens end to end: bounds the trie. */
#define MOULT_TOKEN_BYTES_MAX 1024                 /* Bounds the work per byte of a text. */
#define MOULT_ADDED_TOKENS_MAX 65536
#define MOULT_SPECIAL_TOKENS_MAX 64                /* Around one text. */

/* Sources. */
#define MOULT_LISTING_BYTES_MAX (8 * MOULT_MIB)    /* One page, or one manifest. */
#define MOULT_LISTING_PAGES_MAX 64
#define MOULT_PULL_LINE_BYTES_MAX (64 * MOULT_KIB) /* What moult pull tells its front: 8 KB of
                                                      paths, sixfold where each byte is escaped. */
#define MOULT_LISTING_FILES_MAX 65536              /* A repository may hold more than a model. */

/* Slots, generations, workers. */
#define MOULT_SLOTS_MAX 64
#define MOULT_GENERATIONS_PER_SLOT_MAX 3
#define MOULT_HISTORY_MAX 100                      /* Entries kept per slot in state.json. */
#define MOULT_KEPT_MAX 32                          /* Models of a slot beside current and previous:
                                                      --keep, leased ones, and those that go. */
#define MOULT_KEEP_MAX 16                          /* --keep. */
#define MOULT_LEASES_MAX 256
#define MOULT_LEASED_MODELS_MAX 8                  /* Of one slot: its other kept ones need room. */
#define MOULT_LEASE_SECONDS_MAX (31 * 86400)       /* A lease can be renewed. */
#define MOULT_ROOM_SECONDS 30                      /* A request waits so long for its model to have
                                                      a place and memory. */
#define MOULT_WATCHDOG_SECONDS 30
#define MOULT_STRAGGLER_SECONDS 30
#define MOULT_UNHEALTHY_SECONDS 60                 /* Without a worker that should be there: others
                                                      may be better placed to answer. */
#define MOULT_THREADS_MAX 256
#define MOULT_ROWS_FILES_MAX 16                    /* That a worker finds its vectors among. */

/* Documents. */
#define MOULT_COLLECTION_NAME_BYTES_MAX 64
#define MOULT_COLLECTIONS_MAX 1024
#define MOULT_SPACES_MAX 1024                      /* Those of all slots. */
#define MOULT_DOCUMENT_ID_BYTES_MAX 512
#define MOULT_DOCUMENT_TEXT_BYTES_MAX MOULT_MIB    /* A book has about that. */
#define MOULT_DOCUMENT_METADATA_BYTES_MAX (64 * MOULT_KIB)
#define MOULT_DOCUMENTS_PER_REQUEST_MAX 2048
#define MOULT_HITS_PER_REQUEST_MAX 100000          /* Of all its queries: a second of reading. */
#define MOULT_DOCUMENTS_ANSWER_BYTES_MAX (64 * MOULT_MIB)
#define MOULT_CHUNKS_PER_DOCUMENT_MAX (128 * 1024) /* The longest text in chunks of 8 bytes. */
#define MOULT_ROWS_PER_SPACE_MAX 0xFFFFFFFFul      /* A row's number has 32 bits. */

/* Filters: the time that one takes grows with its terms. */
#define MOULT_FILTER_DEPTH_MAX 16
#define MOULT_FILTER_TERMS_MAX 256
#define MOULT_FILTER_VALUES_MAX 1000               /* Of one $in or $nin. */
#define MOULT_FILTER_FIELD_BYTES_MAX 512           /* A dotted path. */
#define MOULT_WORDS_PER_QUERY_MAX 64               /* Of a search by words; more are not read. */
#define MOULT_WORD_SEARCHES_MAX 128                /* Waiting: they take up to a tenth of a second
                                                      each, in a large collection. */

/* Following. */
#define MOULT_CHUNK_TOKENS_AUTO 0xFFFFFFFFu        /* As many as the model takes. */
#define MOULT_WRITE_SECONDS_MAX 300                /* Until what was written can be searched. */
#define MOULT_SEARCH_SECONDS_MAX 60                /* Until an index is read that was not there. */
#define MOULT_UNFOLLOWED_DOCUMENTS_MAX 8192        /* Written, and not embedded yet: more may be
                                                      written when fewer are left. */

#define MOULT_BROUGHT_VECTORS_MAX 10000000         /* Of documents, by a model: 24 bytes each in the
                                                      front, while they are used. */

/* Reports of what an update changes. */
#define MOULT_ASKED_TEXTS_MAX 1000                 /* --report; the work grows with its square. */
#define MOULT_ASKED_TEXT_BYTES_MAX (8 * MOULT_KIB) /* Longer ones are not remembered. */
#define MOULT_ASKED_BYTES_MAX MOULT_MIB            /* Of all that are, in one slot. */

/* A person's own test set (--gate). */
#define MOULT_GATE_FILE_BYTES_MAX (64 * MOULT_MIB)
#define MOULT_GATE_QUERIES_MAX 10000
#define MOULT_GATE_RELEVANT_MAX 10000              /* Of one query. */
#define MOULT_GATE_GAIN_MAX 1000
#define MOULT_GATE_COLLECTIONS_MAX 64

/* Web hooks. */
#define MOULT_HOOKS_MAX 8
#define MOULT_HOOK_MESSAGES_MAX 256                /* Waiting for one receiver. */

#endif
