-- Quantiles in little memory, the same in every run: histograms over logarithmic buckets.
--
-- `histogram(log_bucket(x))` counts values in buckets that are 2% wide, zero and below in one of their own;
-- `histogram_quantile(h, q)` reads a quantile from it, within 1% of the exact one (Masson, Rim and Lee: DDSketch,
-- VLDB 2019). Of flows, take `weighted_quantile(histogram(weighted(log_bucket(x), weight)), q)`: a flow that stands for
-- more than itself counts so often; `masses` are its counts. `bin_width(given, low, high)` is a width given in
-- microseconds, or the roundest that cuts [low, high] (microseconds) into at most 60 bins.
create temp macro log_bucket(value) as
  case when value > 0 then ceil(ln(value) / ln(1.01 / 0.99))::SMALLINT when value <= 0 then (-32767)::SMALLINT end;

create temp macro bucket_value(bucket) as
  case when bucket = -32767 then 0.0 else 2 * pow(1.01 / 0.99, bucket) / (1.01 / 0.99 + 1) end::DOUBLE;

create temp macro histogram_quantile(counts, part) as
  bucket_value(list_extract(map_keys(counts), list_filter(
    range(1, len(map_keys(counts)) + 1),
    lambda place: list_sum(map_values(counts)[1:place]) >= part * list_sum(map_values(counts))
  )[1]));

create temp macro masses(counts) as
  list_transform(map_entries(counts), lambda entry: entry.key.weight * entry.value);

create temp macro bin_width(given, low, high) as
  coalesce(given::BIGINT, list_extract(list_filter([
      1000, 10000, 100000, 1000000, 5000000, 10000000, 30000000, 60000000, 300000000, 600000000, 1800000000, 3600000000,
      10800000000, 21600000000, 86400000000
    ]::BIGINT[], lambda width: (high - low) / width <= 60), 1), 86400000000);
