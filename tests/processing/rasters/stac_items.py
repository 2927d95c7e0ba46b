"""Items after the public examples of catalogues, cut down to what is read."""

GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
# Band, common name, centre and width in micrometres, pixel size in metres: as Earth Search, Planetary Computer and
# stactools give them.
SENTINEL_2 = {
    "coastal": ("B01", "coastal", 0.443, 0.027, 60),
    "blue": ("B02", "blue", 0.49, 0.098, 10),
    "green": ("B03", "green", 0.56, 0.045, 10),
    "red": ("B04", "red", 0.665, 0.038, 10),
    "rededge1": ("B05", "rededge", 0.704, 0.019, 20),
    "rededge2": ("B06", "rededge", 0.74, 0.018, 20),
    "rededge3": ("B07", "rededge", 0.783, 0.028, 20),
    "nir": ("B08", "nir", 0.842, 0.145, 10),
    "nir08": ("B8A", "nir08", 0.865, 0.033, 20),
    "nir09": ("B09", "nir09", 0.945, 0.026, 60),
    "swir16": ("B11", "swir16", 1.61, 0.143, 20),
    "swir22": ("B12", "swir22", 2.19, 0.242, 20),
}
URI = "S2A_MSIL2A_20230628T070631_N0509_R106_T39QTA_20230628T113955.SAFE"


def item(properties, assets, **fields):
    return {
        **{"type": "Feature", "stac_version": "1.0.0", "id": "i", "geometry": None, "links": []},
        **{"properties": {"datetime": "2023-06-28T07:24:38.255000Z", **properties}, "assets": assets, **fields},
    }


def earth_search(applied=True, baseline="05.09", offset=-0.1, **properties):
    """Earth Search v1, collection sentinel-2-l2a."""
    cogs = (
        "https://sentinel-cogs.s3.us-west-2.amazonaws.com/sentinel-s2-l2a-cogs/39/Q/TA/2023/6/S2A_39QTA_20230628_0_L2A"
    )
    jp2s = "s3://sentinel-s2-l2a/tiles/39/Q/TA/2023/6/28/0"
    assets = {
        "thumbnail": {"href": f"{cogs}/thumbnail.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
        "visual": {"href": f"{cogs}/TCI.tif", "type": GEOTIFF, "roles": ["visual"]},
        "granule_metadata": {"href": f"{cogs}/granule_metadata.xml", "type": "application/xml", "roles": ["metadata"]},
    }
    layers = {"aot": ("AOT", 0.001, None), "wvp": ("WVP", 0.001, "cm"), "scl": ("SCL", None, None)}
    for suffix, folder, media, ending in (("", cogs, GEOTIFF, "tif"), ("-jp2", jp2s, "image/jp2", "jp2")):
        for key, (band, common_name, center, width, gsd) in SENTINEL_2.items():
            assets[f"{key}{suffix}"] = {
                **{"href": f"{folder}/{band}.{ending}", "type": media, "gsd": gsd, "roles": ["data", "reflectance"]},
                "eo:bands": [
                    {
                        **{"name": key, "common_name": common_name, "description": key},
                        **{"center_wavelength": center, "full_width_half_max": width},
                    }
                ],
                "raster:bands": [
                    {
                        **{"nodata": 0, "data_type": "uint16", "bits_per_sample": 15, "spatial_resolution": gsd},
                        **{"scale": 0.0001, "offset": offset},
                    }
                ],
            }
        for key, (name, scale, unit) in layers.items():
            band = {"nodata": 0, "data_type": "uint16", "spatial_resolution": 20}
            band |= {"scale": scale, "offset": 0} if scale else {}
            band |= {"unit": unit} if unit else {}
            assets[f"{key}{suffix}"] = {
                **{"href": f"{folder}/{name}.{ending}", "type": media, "roles": ["data", "reflectance"]},
                "raster:bands": [band],
            }
    properties = {
        **{"platform": "sentinel-2a", "constellation": "sentinel-2", "instruments": ["msi"]},
        **{"s2:product_type": "S2MSI2A", "s2:processing_baseline": baseline, "s2:product_uri": URI},
        **{"earthsearch:boa_offset_applied": applied},
        **properties,
    }
    return item(properties, assets, id="S2A_39QTA_20230628_0_L2A", collection="sentinel-2-l2a")


def planetary_computer_sentinel_2(baseline="05.09"):
    """Planetary Computer, collection sentinel-2-l2a: no raster:bands, and layers and pictures have the role of data."""
    store = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/39/Q/TA/2023/06/28"
    assets = {}
    bands = {}
    for band, common_name, center, width, gsd in SENTINEL_2.values():
        name = "rededge" if band == "B8A" else common_name
        bands[band] = {"name": band, "common_name": name, "center_wavelength": center, "full_width_half_max": width}
        assets[band] = {
            **{"href": f"{store}/T39QTA_20230628T070631_{band}_{gsd}m.tif", "type": GEOTIFF, "gsd": gsd},
            **{"roles": ["data"], "eo:bands": [bands[band]]},
        }
    for layer in ("AOT", "SCL", "WVP"):
        href = f"{store}/T39QTA_20230628T070631_{layer}_20m.tif"
        assets[layer] = {"href": href, "type": GEOTIFF, "gsd": 20, "roles": ["data"]}
    assets["visual"] = {
        **{"href": f"{store}/T39QTA_20230628T070631_TCI_10m.tif", "type": GEOTIFF, "gsd": 10, "roles": ["data"]},
        "eo:bands": [bands["B04"], bands["B03"], bands["B02"]],
    }
    assets["preview"] = {"href": f"{store}/PVI.tif", "type": GEOTIFF, "roles": ["thumbnail"]}
    properties = {
        **{"platform": "Sentinel-2A", "instruments": ["msi"], "s2:product_type": "S2MSI2A"},
        **{"s2:processing_baseline": baseline},
    }
    return item(properties, assets, id="S2A_MSIL2A_20230628T070631_R106_T39QTA_20230628T113955")


def landsat(roles=("data",)):
    """Planetary Computer and stactools, collection landsat-c2-l2; bands with the roles given."""
    store = "https://landsateuwest.blob.core.windows.net/landsat-c2/level-2/LC09_L2SP_010065_20220129_20220131_02_T1"
    reflective = {"blue": ("OLI_B2", 0.48, 0.06), "red": ("OLI_B4", 0.65, 0.04), "nir08": ("OLI_B5", 0.86, 0.03)}
    assets = {
        key: {
            **{"href": f"{store}_SR_{name[4:]}.TIF", "type": GEOTIFF, "roles": [*roles, "reflectance"]},
            "eo:bands": [{"name": name, "common_name": key, "center_wavelength": center, "full_width_half_max": width}],
            "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 2.75e-05, "offset": -0.2}],
        }
        for key, (name, center, width) in reflective.items()
    }
    assets["lwir11"] = {
        **{"href": f"{store}_ST_B10.TIF", "type": GEOTIFF, "gsd": 100, "roles": [*roles, "temperature"]},
        "eo:bands": [
            {"name": "TIRS_B10", "common_name": "lwir11", "center_wavelength": 10.9, "full_width_half_max": 0.59}
        ],
        "raster:bands": [{"nodata": 0, "data_type": "uint16", "unit": "kelvin", "scale": 0.00341802, "offset": 149.0}],
    }
    assets["qa_pixel"] = {
        **{
            "href": f"{store}_QA_PIXEL.TIF",
            "type": GEOTIFF,
            "roles": ["cloud", "cloud-shadow", "snow-ice", "water-mask"],
        },
        "raster:bands": [{"nodata": 1, "data_type": "uint16", "unit": "bit index"}],
    }
    for key, unit in (("trad", "watt/steradian/square_meter/micrometer"), ("emis", "emissivity coefficient")):
        assets[key] = {
            **{"href": f"{store}_ST_{key.upper()}.TIF", "type": GEOTIFF, "roles": ["data"]},
            "raster:bands": [{"nodata": -9999, "data_type": "int16", "unit": unit, "scale": 0.001}],
        }
    properties = {"platform": "landsat-9", "instruments": ["oli", "tirs"], "gsd": 30}
    properties["datetime"] = "2022-01-29T15:28:34.396428Z"
    return item(properties, assets, id="LC09_L2SP_010065_20220129_02_T1")


def sentinel_1(collection="sentinel-1-grd"):
    """Planetary Computer, collections sentinel-1-grd and sentinel-1-rtc: assets have titles, and no lists of bands."""
    titles = {"vh": "VH: vertical transmit, horizontal receive", "vv": "VV: vertical transmit, vertical receive"}
    assets = {
        key: {"href": f"measurement/iw-{key}.tiff", "type": GEOTIFF, "title": title, "roles": ["data"]}
        for key, title in titles.items()
    }
    if collection == "sentinel-1-rtc":
        for asset in assets.values():
            asset["raster:bands"] = [{"nodata": -32768, "data_type": "float32", "spatial_resolution": 10.0}]
    assets["thumbnail"] = {"href": "preview/quick-look.png", "type": "image/png", "roles": ["thumbnail"]}
    properties = {
        **{"platform": "SENTINEL-1A", "sar:polarizations": ["VV", "VH"], "sar:instrument_mode": "IW"},
        **{"start_datetime": "2023-06-28 21:07:05.989235+00:00", "end_datetime": "2023-06-28 21:07:30.988556+00:00"},
        "sar:product_type": "GRD",
    }
    return item(properties, assets, collection=collection)


def copernicus():
    """Copernicus Data Space, collection sentinel-2-l2a: STAC 1.1, each band in all its resolutions."""
    assets = {}
    for band, common_name, center, width, gsd in SENTINEL_2.values():
        for size in (10, 20, 60):
            if size >= gsd:
                assets[f"{band}_{size}m"] = {
                    **{"href": f"s3://eodata/{band}_{size}m.jp2", "type": "image/jp2", "gsd": size, "nodata": 0},
                    **{"roles": ["data", "reflectance"], "raster:scale": 0.0001, "raster:offset": -0.1},
                    "bands": [
                        {
                            **{"name": band, "eo:common_name": common_name, "eo:center_wavelength": center},
                            "eo:full_width_half_max": width,
                        }
                    ],
                }
    assets["SCL_20m"] = {"href": "s3://eodata/SCL_20m.jp2", "type": "image/jp2", "gsd": 20, "roles": ["data"]}
    return item({"platform": "sentinel-2a", "processing:version": "05.11"}, assets, stac_version="1.1.0")
