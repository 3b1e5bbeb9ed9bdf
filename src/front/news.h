/* What is told of updates to whoever is not asking: web hooks (hook.h), with the events of
 * docs/hooks.md, and the counts of GET /metrics. It watches the updates, and has no say in them. */
#ifndef MOULT_FRONT_NEWS_H
#define MOULT_FRONT_NEWS_H

#include "front/hook.h"
#include "front/metrics.h"
#include "front/update.h"

struct moult_news;

/* `hooks` may be NULL; both stay the caller's. */
struct moult_news *moult_news_open(struct moult_updates *updates, struct moult_hooks *hooks,
                                   struct moult_metrics *metrics);
void moult_news_close(struct moult_news *news);

#endif
