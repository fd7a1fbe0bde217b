"""The way of the data, from a team's files or the generated shop to the two tables that every later job reads.

registry   DATASET -> a data set: the shop, or files in some format
source     DATA_SOURCE, or a download -> a folder           (archive, download)
readers    a folder -> raw tables                           (grouplens, amazon, own_tables; generated: shop)
file kinds text_table, json_lines, parquet_table: read fast, and read slowly to name the line at fault
interactions, items                                         raw tables -> clean tables, with warnings counted
manifest   what was prepared, from what
"""
