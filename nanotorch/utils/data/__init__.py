"""Datasets, samplers, and the DataLoader that makes batches of them, in this process or in others."""

from nanotorch.utils.data import dataloader, dataset, distributed, sampler
from nanotorch.utils.data.collate import default_collate, default_convert
from nanotorch.utils.data.dataloader import DataLoader
from nanotorch.utils.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    Indices,
    IterableDataset,
    StackDataset,
    Stacked,
    Subset,
    TensorDataset,
    random_split,
)
from nanotorch.utils.data.distributed import DistributedSampler
from nanotorch.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from nanotorch.utils.data.worker_info import get_worker_info

__all__ = [
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DistributedSampler",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Stacked",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "dataloader",
    "dataset",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
    "sampler",
]
