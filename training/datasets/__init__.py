"""Reads data sets, from files or the generated shop, into the two tables that every later job reads.

registry   DATASET -> a data set: the shop, or files in some format
source     DATA_SOURCE, or a download -> a folder           (archive, download, package)
readers    a folder -> raw tables                           (grouplens, amazon, complete_journey, own_tables, shop)
file kinds text_table, json_lines, parquet_table: a fast read, and a slow one that finds the line of an error
interactions, items                                         raw tables -> clean tables, with warnings counted
manifest   the names of the prepared files, and a description of their content
sequences  prepared interactions -> sequences of item indices, their split and batches   (splits)
catalogue  prepared items in the order of the item indices
"""
