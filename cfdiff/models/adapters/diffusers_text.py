"""The text tower of a pipeline of diffusers, text_encoder/ and tokenizer/, as our condition encoder."""

from __future__ import annotations

from cfdiff.errors import UserError, first_line
from cfdiff.models.adapters.diffusers_folder import Folder
from cfdiff.models.text import need
from cfdiff.models.text_encoder import TextEncoder, TextParts, text_encoder_of


def check_text(folder: Folder) -> bool:
    """Whether the network of a folder is to be told a text.

    Raises:
        UserError: it is, and by other towers than one of CLIP's.
    """
    if folder.beside.tokens == "zeros" or not folder.reads_text:
        return False
    kinds = [str(kind) for kind in folder.text_kinds]
    if kinds != ["CLIPTextModel"]:
        raise UserError(
            f"{folder.path.name} reads texts by {' and '.join(kinds)}, which cfdiff does not give it: take a "
            f"model with one "
            "CLIPTextModel, or without a text."
        )
    return True


def load_text(folder: Folder) -> TextEncoder:
    """The encoder of a folder for which `check_text` is true.

    Raises:
        UserError: transformers is missing, or the tower or its tokenizer cannot be read.
    """
    need("transformers")
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging

    quiet = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tower = CLIPTextModel.from_pretrained(folder.root / "text_encoder", local_files_only=True, use_safetensors=True)
        words = CLIPTokenizer.from_pretrained(folder.root / "tokenizer", local_files_only=True)
        parts = TextParts(
            tower,
            words.backend_tokenizer.to_str(),
            int(tower.config.max_position_embeddings),
            words.bos_token_id,
            words.eos_token_id,
            words.pad_token_id,
        )
        return text_encoder_of(parts, half=False)
    except UserError:
        raise
    except Exception as error:  # transformers raises what it likes
        raise UserError(
            f"The pipeline {folder.path.name} holds no whole text_encoder/ and tokenizer/ of CLIP "
            f"({first_line(error)}): "
            "copy the folder again, with weights as safetensors."
        ) from error
    finally:
        logging.set_verbosity(quiet)
        logging.enable_progress_bar()
