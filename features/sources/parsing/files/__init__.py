"""Files of any format in batches of rows.

Open `readers` first: CSV, JSON, Parquet and Excel through one function. `workbook` reads sheets, `product_feed` XML,
`file_sets` sorts the files of data sets that have several. Imports `text_files` and `cells`.
"""
