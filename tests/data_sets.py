"""A data set of TensorFlow Datasets for tests, which needs no download: tfds:tiny_tales."""
import pytest


def make(folder, splits, features=('text',)):
  """A data set of TensorFlow Datasets on disk, with no code that is registered: found through data_dir alone."""
  tfds = pytest.importorskip('tensorflow_datasets')

  class TinyTales(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      texts = {feature: tfds.features.Text() for feature in features}
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(
          {**texts, 'label': tfds.features.ClassLabel(num_classes=2)}))

    def _split_generators(self, dl_manager):
      return {name: self._generate_examples(texts) for name, texts in splits.items()}

    def _generate_examples(self, texts):
      for i, text in enumerate(texts):
        yield i, {**{feature: f'{feature}: {text}' for feature in features}, 'label': 0}

  builder = TinyTales(data_dir=folder)
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
      try_download_gcs=False, compute_stats=tfds.download.ComputeStatsMode.SKIP))
