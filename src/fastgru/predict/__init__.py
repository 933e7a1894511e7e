"""Prediction of whole tables: Parquet in, Parquet out, in this process or on a Ray cluster."""

from fastgru.predict.job import predict_parquet

__all__ = ["predict_parquet"]
